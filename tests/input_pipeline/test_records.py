"""Records: what goes in comes out, for us and for TFDS; other bytes are told from them."""

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from vssflow_jax.input_pipeline import records
from vssflow_jax.input_pipeline.dataset import all_finite

WIDTHS = {"visual": 3, "sync": 2, "lips": 5, "speaker": 6}


def values() -> dict:
    """Every field, two arrays of them absent."""
    rng = np.random.default_rng(0)
    return {
        "schema_version": "2.0.0",
        "clip_id": "clip-é",
        "task": "visualtts",
        "transcript": "a " * 100,  # longer than a size of one byte says
        "voice": "",
        "video": "clips/1.mp4",
        "caption": "rain; then a door",
        "duration_sec": 2.5,
        "audio": rng.integers(-(2**15), 2**15, 40_000, np.int16),
        "posterior": rng.standard_normal((7, 256), np.float32),
        "phonemes": np.array([59, 1, 70, 59], np.int32),
        "phoneme_frames": (),
        "event_times_sec": np.array([0.5, 1.25], np.float32),
        "visual": rng.standard_normal((10, 3), np.float32),
        "sync": rng.standard_normal((24, 2)).astype(np.float16),
        "lips": (),
        "speaker": rng.standard_normal(6, np.float32),
    }


def test_what_goes_in_comes_out_in_the_bytes_of_the_record() -> None:
    given = values()
    record = records.encode(given, WIDTHS)
    found = records.decode(record, WIDTHS)
    assert found.keys() == given.keys()
    whole = np.frombuffer(record, np.uint8)
    for name, dtype in records.dtypes(WIDTHS).items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name].ravel(), np.ravel(given[name]).astype(dtype))
        assert not found[name].size or np.shares_memory(found[name], whole)
    for name in (*records.TEXTS, records.DURATION):
        assert found[name] == given[name]
    assert found["visual"].shape == (10, 3)
    assert found["lips"].shape == (0, 5)
    assert found["posterior"].shape == (7, 256)


def test_the_same_values_are_the_same_bytes_whatever_their_order() -> None:
    given = values()
    assert records.encode(given, WIDTHS) == records.encode(dict(reversed(given.items())), WIDTHS)


def test_two_streams_have_the_names_of_the_reference_on_the_disk() -> None:
    named = tf_example_pb2.Example.FromString(records.encode(values(), WIDTHS)).features.feature
    assert (
        set(named)
        == set(records.features(WIDTHS))
        == set(values()) - {"visual", "sync"}
        | {
            "clip",
            "synch",
        }
    )
    assert named["synch"].bytes_list.value[0] == values()["sync"].tobytes()


def test_tfds_reads_the_same() -> None:
    given = values()
    example = records.features(WIDTHS).deserialize_example_np(records.encode(given, WIDTHS))
    assert example["clip_id"].decode() == given["clip_id"]
    assert example["audio"] == given["audio"].tobytes()
    assert example["lips"] == b""
    assert example["duration_sec"] == 2.5


def test_a_record_cut_short_anywhere_is_none() -> None:
    record = records.encode(values(), WIDTHS)
    assert len(record) > 80_000
    places = np.random.default_rng(0).integers(0, len(record), 200).tolist()
    for end in [0, 1, 2, 3, len(record) - 1, *places]:
        with pytest.raises((ValueError, KeyError)):
            records.decode(record[:end], WIDTHS)


def test_other_records_are_none() -> None:
    example = tf_example_pb2.Example.FromString(records.encode(values(), WIDTHS))
    del example.features.feature["lips"]
    with pytest.raises(KeyError, match="lips"):
        records.decode(example.SerializeToString(), WIDTHS)
    example.features.feature["lips"].int64_list.value.append(3)
    with pytest.raises((ValueError, KeyError)):
        records.decode(example.SerializeToString(), WIDTHS)
    with pytest.raises((ValueError, KeyError)):
        records.decode(np.random.default_rng(0).bytes(1000), WIDTHS)
    with pytest.raises(ValueError, match="reshape"):
        records.decode(records.encode(values(), WIDTHS), {**WIDTHS, "visual": 4})


def test_a_record_may_be_of_the_time_before_captions() -> None:
    given = values()
    del given["caption"]
    record = records.encode(given, WIDTHS)
    assert records.decode(record, WIDTHS)["caption"] == ""
    assert records.features(WIDTHS).deserialize_example_np(record)["caption"] == b""
    example = tf_example_pb2.Example.FromString(record)
    del example.features.feature["caption"]
    found = records.decode(example.SerializeToString(deterministic=True), WIDTHS)
    assert found.keys() == values().keys()
    assert (found["caption"], found["transcript"]) == ("", given["transcript"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_finite(dtype: type) -> None:
    largest = np.finfo(dtype).max
    for good in (0.0, -0.0, 1.0, -1.0, largest, -largest, np.finfo(dtype).tiny):
        assert all_finite(np.array([[1, good], [-2, 0]], dtype))
    for bad in (np.inf, -np.inf, np.nan, np.copysign(np.nan, -1)):
        assert not all_finite(np.array([[1, bad], [-2, 0]], dtype))
        assert not all_finite(np.array([bad], dtype))
    assert all_finite(np.zeros((0, 3), dtype))
