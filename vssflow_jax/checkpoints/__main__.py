from vssflow_jax import cli
from vssflow_jax.checkpoints import command

__doc__ = command.__doc__  # what --help prints

if __name__ == "__main__":
    command.define_flags()
    cli.run(command.main, "RUN")
