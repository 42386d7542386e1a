"""The command line: `caplab doctor`."""

import argparse
from collections.abc import Sequence

import caplab

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="caplab", description="Capability Regression Lab")
    parser.add_argument("--version", action="version", version=f"caplab {caplab.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    doctor = commands.add_parser("doctor", help="say what is fine on this machine and what is not")
    doctor.set_defaults(run=_doctor)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from caplab.doctor import examine

    return examine()
