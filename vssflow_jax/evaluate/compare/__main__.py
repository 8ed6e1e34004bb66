from vssflow_jax import cli
from vssflow_jax.evaluate.pages import compare

__doc__ = compare.__doc__  # what --help prints

if __name__ == "__main__":
    compare.define_flags()
    cli.run(compare.main, "RUN_A", "RUN_B", cli.MORE)
