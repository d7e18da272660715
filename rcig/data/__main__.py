"""The command `python -m rcig.data`: ``list`` the known data sets, ``prepare`` one, or write a text's word vectors.

python -m rcig.data list --data_dir ~/tensorflow_datasets
python -m rcig.data prepare cifar10 --data_dir ~/tensorflow_datasets
python -m rcig.data vectors imdb imdb.txt --vocabulary=30000
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rcig.data import cache, embeddings, prepare, sources
from rcig.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status: 0 done, 2 with one ``error:`` line for what the user can mend."""
    options = _parser().parse_args(arguments)
    data_dir = Path(options.data_dir or sources.default_data_dir()).expanduser()
    try:
        options.run(options, data_dir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """Like every command here: a mistake is one line that begins ``error:``."""

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m rcig.data", description="List or prepare data sets; write word vectors.")
    commands = parser.add_subparsers(required=True, metavar="list|prepare|vectors")
    listing = commands.add_parser("list", help="show the known data sets and where they are")
    preparing = commands.add_parser("prepare", help="download a data set and write it in the form that is read")
    preparing.add_argument("name", help="a name that `list` shows")
    writing = commands.add_parser("vectors", help="train word vectors on a text's training split, write a GloVe file")
    writing.add_argument("name", help="imdb, or another text that `list` shows")
    writing.add_argument("file", type=Path, help="where to; then --config.data.embeddings=FILE for any text")
    writing.add_argument("--path", help="of tsv: where your own text is")
    writing.add_argument("--vocabulary", type=int, default=0, help="so many most frequent words; default: the text's")
    for command, run in ((listing, _list), (preparing, _prepare), (writing, _vectors)):
        command.add_argument("--data_dir", help="default: TFDS_DATA_DIR, else ~/tensorflow_datasets")
        command.set_defaults(run=run)
    return parser


def _list(options: argparse.Namespace, data_dir: Path) -> None:
    print(f"data sets in {data_dir}:")
    for name, source in sources.SOURCES.items():
        if source.locate is None:
            state = "your own files: pass path=" if source.options else "comes with scikit-learn"
        else:
            state = source.locate(data_dir) or "not found"
        print(f"  {name:<24}{state}")


def _prepare(options: argparse.Namespace, data_dir: Path) -> None:
    print(f"{options.name} is in {prepare.prepare(options.name, data_dir)}")


def _vectors(options: argparse.Namespace, data_dir: Path) -> None:
    chosen = {name: value for name in ("path", "vocabulary") if (value := getattr(options, name))}
    learned = sources.read(options.name, data_dir, cache.default_folder(), chosen).embedding
    if learned is None:
        raise UserError(f"data set {options.name!r} has no words: name a text, such as imdb")
    count = embeddings.to_file(options.file, learned.words, learned.table)
    print(f"{options.file} has the vectors of {count} words")


if __name__ == "__main__":
    sys.exit(main())
