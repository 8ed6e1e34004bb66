from vssflow_jax import cli
from vssflow_jax.plan import describe

__doc__ = describe.__doc__  # what --help prints

if __name__ == "__main__":
    describe.define_flags()
    cli.run(describe.main)
