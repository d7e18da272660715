"""The command `python -m rcig.data`: ``list`` the known data sets, ``prepare`` one, or write a text's word vectors.

python -m rcig.data list --data_dir ~/tensorflow_datasets
python -m rcig.data prepare cifar10 --data_dir ~/tensorflow_datasets
python -m rcig.data vectors imdb imdb.txt --vocabulary=30000
"""

import argparse
from pathlib import Path

from rcig import command
from rcig.data import cache, embeddings, prepare, sources
from rcig.errors import UserError
from rcig.files import check_new


def main() -> None:
    options = _parser().parse_args()
    options.run(options, options.data_dir)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("List or prepare data sets; write word vectors.", prog="python -m rcig.data")
    commands = parser.add_subparsers(required=True, metavar="list|prepare|vectors")
    listing = commands.add_parser("list", help="show the known data sets and where they are")
    preparing = commands.add_parser("prepare", help="download a data set and write it in the form that is read")
    preparing.add_argument("name", help="a name that `list` shows")
    writing = commands.add_parser("vectors", help="train word vectors on a text's training split, write a GloVe file")
    writing.add_argument("name", help="imdb, or another text that `list` shows")
    writing.add_argument("file", type=command.place, help="a new file; then --config.data.embeddings=FILE for any text")
    writing.add_argument("--path", help="of tsv: where your own text is")
    writing.add_argument("--vocabulary", type=int, default=0, help="so many most frequent words; default: the text's")
    for each, run in ((listing, _list), (preparing, _prepare), (writing, _vectors)):
        each.add_argument("--data_dir", type=command.place, help="default: TFDS_DATA_DIR, else ~/tensorflow_datasets")
        each.set_defaults(run=run)
    return parser


def _list(options: argparse.Namespace, data_dir: Path | None) -> None:
    data_dir = data_dir or sources.default_data_dir()
    print(f"data sets in {data_dir}:")
    for name, source in sources.SOURCES.items():
        if source.locate is None:
            state = "your own files: pass path=" if source.options else "comes with scikit-learn"
        else:
            state = source.locate(data_dir) or "not found"
        print(f"  {name:<24}{state}")


def _prepare(options: argparse.Namespace, data_dir: Path | None) -> None:
    print(f"{options.name} is in {prepare.prepare(options.name, data_dir or sources.default_data_dir())}")


def _vectors(options: argparse.Namespace, data_dir: Path | None) -> None:
    check_new(options.file)
    chosen = {name: value for name in ("path", "vocabulary") if (value := getattr(options, name))}
    learned = sources.read(options.name, data_dir, cache.default_folder(), chosen).embedding
    if learned is None:
        raise UserError(f"data set {options.name!r} has no words: name a text, such as imdb")
    count = embeddings.to_file(options.file, learned.words, learned.table)
    print(f"{options.file} has the vectors of {count} words")


if __name__ == "__main__":
    command.main(main)
