"""Text data sets: words to vectors and back, the published files, your own, and every way that a file can be wrong."""

import json
from functools import partial
from pathlib import Path

import commands
import jax
import numpy as np
import pytest
from data_files import real_folder, write_tfds_texts, write_tree
from plugins.pull import Pull

import rcig.models
from rcig import data, initialize, loop, sentences, sharding
from rcig.data import corpora, embeddings, prepare, streaming, text
from rcig.data.text import Embedded, Embedding
from rcig.errors import UserError
from rcig.lookup import find
from rcig.types import Batch, Synthetic

ROOT = Path(__file__).parent.parent
LINES = [f"{label}\t{verb} {noun} {'very ' * times}much" for label, verb in (("good", "love"), ("bad", "hate"))
         for noun in ("films", "books", "songs", "plays", "games") for times in (0, 1, 3)]  # fmt: skip


@pytest.fixture
def load(tmp_path):
    return partial(data.load, cache_dir=tmp_path / "cache")


@pytest.fixture
def tsv(tmp_path) -> Path:
    path = tmp_path / "mine.tsv"
    path.write_text("\n".join(LINES))
    return path


def real(name: str, load, **options):
    folder = real_folder()
    try:
        return load(name, data_dir=folder, **options)
    except UserError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"no {name} in or beside {folder}: set TFDS_DATA_DIR")


# ---------------------------------------------------------------- sentences as vectors, and back


def embedded(num_rows: int = 6, length: int = 4) -> Embedded:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, (num_rows, length)).astype(np.int32)
    return Embedded(tokens, rng.normal(size=(9, 5)).astype(np.float32))


@pytest.mark.parametrize("rows", [2, slice(1, 5, 2), np.array([5, 0, 5]), np.array([[1, 2], [3, 4]])], ids=str)
def test_embedded_rows_are_the_same_on_host_device_and_inside_jit(rows):
    host = embedded()
    expected = np.asarray(host)[rows]
    assert host.shape == (6, 4, 5) and len(host) == 6 and host.dtype == np.float32
    assert host.nbytes == 4 * (6 * 4 + 9 * 5) and expected.dtype == np.float32
    np.testing.assert_array_equal(host[rows], expected)
    device = jax.device_put(host)
    assert isinstance(device, Embedded) and isinstance(device.tokens, jax.Array)
    np.testing.assert_array_equal(device[rows], expected)
    np.testing.assert_array_equal(jax.jit(lambda inputs: inputs[rows])(device), expected)


def test_embedded_rows_are_streamed_like_those_of_an_array():
    host, labels, rows = embedded(), np.arange(6, dtype=np.int32), np.array([[0, 5, 2], [1, 1, 4]])
    batches = streaming.gather(Batch(host, labels), rows)
    np.testing.assert_array_equal(batches.inputs, np.asarray(host)[rows])
    np.testing.assert_array_equal(batches.labels, rows)


def test_words_are_ranked_by_frequency_then_alphabet_and_cut():
    texts = ["The  cat\tsat", "the dog <pad> sat.", "A cat"]
    assert text.most_frequent(texts) == ("<unk>", "<pad>", "cat", "the", "a", "dog", "sat", "sat.")
    words = text.most_frequent(texts, 4)
    assert words == ("<unk>", "<pad>", "cat", "the")
    numbers = list(text.number(["CAT the zebra the", "a"], words))
    assert [row.tolist() for row in numbers] == [[2, 3, 0, 3], [0]]
    np.testing.assert_array_equal(text.padded(numbers, 3), [[2, 3, 0], [0, 1, 1]])


def test_decoding_finds_the_nearest_word_and_inverts_the_table():
    rng = np.random.default_rng(1)
    words = ("<unk>", "<pad>", *[f"word{row}" for row in range(700)])
    table = rng.normal(0, 0.4, (702, 16)).astype(np.float32)
    table[[0, 1, 9]] = 0  # word7 has no vector
    embedding = Embedding(words, table, {})
    tokens = rng.integers(1, 702, (30, 20))
    expected = np.array(words)[np.where(tokens == 9, 1, tokens)]
    np.testing.assert_array_equal(embedding.decode(table[tokens]), expected)
    noise = rng.normal(size=(3, 40, 16))
    distances = np.linalg.norm(noise[:, :, None] - table.astype(np.float64), axis=-1)
    nearest = np.argmin(np.where(np.arange(702) == 0, np.inf, distances), -1)
    np.testing.assert_array_equal(embedding.decode(noise), np.array(words)[nearest])


# ---------------------------------------------------------------- vectors of words


def test_ppmi_of_three_words_is_its_closed_form():
    # "a b" twice, "a c" once; <unk> (0) counts for nothing, and sentences do not touch
    tokens, sentence = np.array([2, 3, 2, 3, 2, 0, 4]), np.array([0, 0, 1, 1, 2, 2, 2])
    counts = embeddings.cooccurrence(tokens, sentence, 5)
    expected = np.zeros((5, 5))
    expected[2, 3] = expected[3, 2] = 2
    expected[2, 4] = expected[4, 2] = 1
    np.testing.assert_array_equal(counts.toarray(), expected)
    nearer = embeddings.cooccurrence(tokens, sentence, 5, window=1)
    assert nearer.sum() == 4 and nearer[2, 3] == 2  # a and c stand two apart
    # n = 6, n_a = 3, n_b = 2, n_c = 1: every pair has log(n_ij n / (n_i n_j)) = log 2
    np.testing.assert_allclose(embeddings.ppmi(counts).toarray(), np.where(expected > 0, np.log(2), 0), rtol=1e-14)
    even = embeddings.ppmi(embeddings.cooccurrence(np.array([2, 3, 2, 3]), np.zeros(4, int), 4, window=2))
    assert even.toarray()[2, 2] == 0  # log(2 * 10 / 25) < 0 is cut


def test_vectors_span_what_an_exact_svd_spans_and_have_one_scale():
    rng = np.random.default_rng(0)
    tokens = np.minimum(1 + rng.geometric(0.08, 4000), 59).astype(np.int32)
    matrix = embeddings.ppmi(embeddings.cooccurrence(tokens, np.arange(4000) // 10, 60))
    table = embeddings.factorised(matrix, 60)
    left, values, _ = np.linalg.svd(matrix.toarray())
    exact = left * np.sqrt(values)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    used = np.flatnonzero(np.asarray(matrix.sum(1)).ravel())
    gram = (exact @ exact.T) / (norms * norms.T) * 0.4**2 * 60  # free of the signs of singular vectors
    np.testing.assert_allclose((table @ table.T)[np.ix_(used, used)], gram[np.ix_(used, used)], atol=2e-4)
    np.testing.assert_allclose(np.sqrt(np.mean(table[used] ** 2, 1)), 0.4, rtol=1e-5)
    assert table.dtype == np.float32 and not table[:2].any()


def test_words_in_like_company_have_like_vectors(load, tsv):
    dataset = load("tsv", path=tsv, embedding_dim=6, length=4)
    shown = dataset.train.inputs[:]
    words = dict(zip(dataset.decode(shown).reshape(-1), shown.reshape(-1, 6), strict=True))

    def likeness(a, b):
        return words[a] @ words[b] / np.linalg.norm(words[a]) / np.linalg.norm(words[b])

    assert likeness("films", "books") > 0.5 > likeness("films", "very")


def test_texts_of_one_word_need_vectors_from_elsewhere(load, tmp_path):
    (tmp_path / "words.tsv").write_text("good\tfine\nbad\tawful\n" * 5)
    refuses(
        "no two words of the train split stand together.*give data.embeddings", load, "tsv", path=tmp_path / "words.tsv"
    )


def test_trained_vectors_come_from_the_cache_and_only_from_the_train_split(load, tsv, tmp_path, monkeypatch):
    (tmp_path / "test.tsv").write_text("good\tunheard words\nbad\thate films")
    first = load("tsv", path=tsv, test_path=tmp_path / "test.tsv", embedding_dim=8)
    monkeypatch.setattr(embeddings, "factorised", None)  # not called again
    again = load("tsv", path=tsv, test_path=tmp_path / "test.tsv", embedding_dim=8)
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    (tmp_path / "test.tsv").write_text("bad\tother words")
    other = load("tsv", path=tsv, test_path=tmp_path / "test.tsv", embedding_dim=8, length=9)
    assert other.preprocessing["digest"] == first.preprocessing["digest"]
    assert first.preprocessing == again.preprocessing and json.dumps(first.preprocessing)
    told = {"kind": "embedding", "vocabulary": 11, "length": 30, "dim": 8, "window": 5, "random_state": 0}
    assert told.items() <= first.preprocessing.items()
    assert not first.test.inputs[0].any()  # unknown words and padding


def test_a_text_that_is_padded_already_is_padded_with_zeros(load, tmp_path):
    (tmp_path / "padded.tsv").write_text("good\tgreat film <pad> <pad>\nbad\tdull film <pad>\n" * 9)
    dataset = load("tsv", path=str(tmp_path / "padded.tsv"), embedding_dim=4, length=5)
    assert not dataset.train.inputs[:][:, 2:].any() and dataset.train.inputs[:][:, :2].any()


def glove(path: Path, **vectors) -> Path:
    path.write_text("".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in vectors.items()))
    return path


def test_a_glove_file_gives_its_vectors_and_zeros_to_the_rest(load, tsv, tmp_path):
    special = {"<unk>": [7, 7, 7], "<pad>": [8, 8, 8]}  # GloVe's own trainer writes the first
    path = glove(tmp_path / "glove.txt", zebra=[9, 9, 9], films=[1, 2, -3e-1], love=[0.5, 0.25, 0], **special)
    dataset = load("tsv", path=tsv, embeddings=str(path), length=4, test_fraction=0.4)
    assert dataset.example_shape == (4, 3)
    vectors = {"films": [1, 2, -0.3], "love": [0.5, 0.25, 0]}
    decoded = dataset.decode(dataset.train.inputs[:])
    assert {"films", "love"} <= set(decoded.reshape(-1)) <= {"films", "love", "<pad>"}
    for word, vector in zip(decoded.reshape(-1), dataset.train.inputs[:].reshape(-1, 3), strict=True):
        np.testing.assert_array_equal(vector, np.float32(vectors.get(word, [0, 0, 0])))
    assert {"embeddings": "glove.txt", "dim": 3, "words_found": 4}.items() <= dataset.preprocessing.items()


def test_other_texts_give_their_vectors_to_the_words_that_they_have(load, tsv, tmp_path):
    (tmp_path / "sst5").mkdir()
    for part, said in (("train", "films love films love rain"), ("test", "hate hate hate")):
        (tmp_path / f"sst5/sst_{part}.txt").write_text(f"__label__1\t{said}\n")
    one, two = (load("tsv", path=tsv, data_dir=tmp_path, embeddings=name) for name in ("sst5", "sst5+sst5"))
    known = {*one.decode(one.train.inputs.table[None])[0]}  # a vector of zeros is <pad>
    assert {"films", "love"} <= known and "hate" not in known  # which the test split alone has
    np.testing.assert_allclose(two.train.inputs.table, one.train.inputs.table, atol=1e-5)
    assert one.preprocessing["embeddings"] == "PPMI and SVD of the train splits of sst5"
    with pytest.raises(UserError, match="data set 'imdb' not found.*prepare imdb"):
        load("tsv", path=tsv, data_dir=tmp_path, embeddings="sst5+imdb")
    with pytest.raises(UserError, match="embeddings .*sst5.imbd cannot be read.*or name texts as in imdb.sst5"):
        load("tsv", path=tsv, data_dir=tmp_path, embeddings="sst5+imbd")


def test_vectors_are_written_as_a_glove_file(load, tsv, tmp_path, monkeypatch):
    monkeypatch.setenv("RCIG_CACHE", str(tmp_path / "cache"))
    vectors = lambda *flags: commands.call("rcig.data.__main__", "vectors", *flags)
    assert vectors("tsv", tmp_path / "glove.txt", f"--path={tsv}").out == (
        f"{tmp_path}/glove.txt has the vectors of 9 words\n"
    )
    trained, read = (load("tsv", path=tsv, **options) for options in ({}, {"embeddings": str(tmp_path / "glove.txt")}))
    np.testing.assert_allclose(read.test.inputs[:], trained.test.inputs[:], rtol=1e-5)  # six digits
    ended = vectors("digits", tmp_path / "digits.txt")
    assert (ended.status, ended.err) == (2, "error: data set 'digits' has no words: name a text, such as imdb\n")
    ended = vectors("tsv", "/proc/glove.txt", f"--path={tsv}")
    assert ended.status == 2 and ended.err.startswith("error: cannot write to /proc: ")
    before = Path(tsv).read_bytes()
    ended = vectors("tsv", tsv, f"--path={tsv}")  # one's own text as the file to write
    assert ended.status == 2 and "must be new" in ended.err and Path(tsv).read_bytes() == before


BAD_GLOVE = {
    "another dimension": (b"love 1 2 3\n", {"embedding_dim": 5}, "line 1 has 3 numbers, not 5: set embedding_dim"),
    "a header": (b"400000 300\nlove 1 2 3\n", {}, "line 2 has 3 numbers, not 1: fetch the file again"),
    "a truncated line": (b"love 1 2 3\nfilms 1 2", {}, "line 2 has 2 numbers, not 3: fetch the file again"),
    "no numbers": (b"love\n", {}, "line 1 has 0 numbers"),
    "an archive": (b"PK\x03\x04\xff\xfe", {}, "line 1 is not UTF-8: give a GloVe text file, unpacked"),
    "words for numbers": (b"love 1 two 3\n", {}, "line 1 holds what is no number"),
    "NaN": (b"zebra 0 0\nlove 1 nan\n", {}, "line 2 holds NaN or Inf"),
    "other words": (b"zebra 1 2\n", {}, "has none of the .* words of the data set"),
    "nothing": (b"", {}, "has none of the .* words of the data set"),
}


@pytest.mark.parametrize("case", BAD_GLOVE)
def test_bad_embeddings_are_one_line_that_names_the_remedy(case, load, tsv, tmp_path):
    contents, options, message = BAD_GLOVE[case]
    (tmp_path / "glove.txt").write_bytes(contents)
    refuses(message, load, "tsv", path=tsv, embeddings=tmp_path / "glove.txt", **options)


def test_a_word_of_a_glove_file_may_have_spaces(tmp_path):
    """That of 840B tokens has some, such as ". . ."."""
    (tmp_path / "glove.txt").write_text("love 1 2\n. . . 3 4\n")
    table, told = embeddings.from_file(tmp_path / "glove.txt", ["love", ". . ."])
    assert table.tolist() == [[1, 2], [3, 4]] and told["words_found"] == 2


def test_classes_are_sorted_by_number_or_by_alphabet(tmp_path, load):
    for labels, wanted in (
        ("10 9 100", ("9", "10", "100")),
        ("dog apple cat", ("apple", "cat", "dog")),
        (f"{'7' * 5000} 8", ("8", "7" * 5000)),
    ):
        path = tmp_path / f"{wanted[0]}.tsv"
        path.write_text("".join(f"{label}\ta few words\n" for label in labels.split() for _ in range(4)))
        assert load("tsv", path=path, test_fraction=0.25, embedding_dim=2).class_names == wanted


def test_a_first_line_that_looks_like_a_header_is_said(load, tsv, tmp_path):
    (tmp_path / "headed.tsv").write_text("label\tthe text\n" + tsv.read_text())
    with pytest.warns(UserWarning, match="headed.tsv, line 1 looks like a header, no other line has the label 'label'"):
        assert load("tsv", path=tmp_path / "headed.tsv", test_path=tsv).num_classes == 3


def test_missing_embeddings_are_named(load, tsv):
    refuses("embeddings /nowhere.txt cannot be read", load, "tsv", path=tsv, embeddings="/nowhere.txt")


# ---------------------------------------------------------------- files


def refuses(message: str, load, name: str, **options) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, train, test, vocabulary, classes",
    [
        ("sst5", [1092, 2218, 1624, 2322, 1288], 2210, 16581, "very negative"),
        ("trec6", [86, 1162, 1250, 1223, 835, 896], 500, 8680, "ABBR"),
    ],
)
def test_the_published_files(name, train, test, vocabulary, classes, load):
    dataset = real(name, load, embedding_dim=4)
    assert np.bincount(dataset.train.labels).tolist() == train and len(dataset.test.labels) == test
    assert dataset.train.inputs.shape == (sum(train), 30, 4) and dataset.test.inputs.shape == (test, 30, 4)
    assert dataset.preprocessing["vocabulary"] == vocabulary and dataset.class_names[0] == classes


def test_the_fine_classes_of_trec(load):
    dataset = real("trec50", load, embedding_dim=2, vocabulary=100, length=10)
    assert dataset.num_classes == 50 and dataset.class_names[:2] == ("ABBR:abb", "ABBR:exp")
    assert len(dataset.train.labels) == 5452 and dataset.test.inputs.shape == (500, 10, 2)


@pytest.mark.slow
def test_the_reviews_of_imdb(load):
    dataset = real("imdb", load, vocabulary=50, embedding_dim=4)
    assert dataset.class_names == ("neg", "pos") and dataset.train.inputs.shape == (25000, 200, 4)
    for part in (dataset.train, dataset.test):
        assert np.bincount(part.labels).tolist() == [12500, 12500]
    assert dataset.decode(dataset.train.inputs[:1])[0, :4].tolist() == ["this", "was", "an", "<pad>"]


def test_a_prepared_tfds_set_is_read(load, tmp_path):
    pairs = [("A fine café", 1), ("A dull film", 0)] * 2
    write_tfds_texts(tmp_path, "imdb_reviews", "plain_text", {"train": pairs, "test": pairs[:2]})
    dataset = load("imdb", data_dir=tmp_path, length=4, embedding_dim=3)
    assert dataset.class_names == ("0", "1")
    said = [" ".join(row) for row in dataset.decode(dataset.train.inputs[:])]
    for label, sentence in zip(dataset.train.labels, said, strict=True):
        assert sentence == ("a fine café <pad>" if label else "a dull film <pad>")
    for path in (tmp_path / "imdb_reviews/plain_text/1.0.0").glob("*test*"):
        path.unlink()
    refuses("its records cannot be read", load, "imdb", data_dir=tmp_path)


def test_trec_is_found_beside_the_folder_and_one_line_may_be_latin1(load, tmp_path):
    lines = b"LOC:city Which sister\xbfcity ?\nHUM:ind Who is it ?\r\n"
    write_tree(tmp_path, {"trec/train_5500.label": lines, "trec/TREC_10.label": lines, "tfds/x": b""})
    dataset = load("trec50", data_dir=tmp_path / "tfds", length=3, embedding_dim=4)
    assert dataset.class_names == ("HUM:ind", "LOC:city") and dataset.train.labels.tolist() == [1, 0]
    assert dataset.decode(dataset.train.inputs[:]).tolist() == [["which", "sister¿city", "?"], ["who", "is", "it"]]


def test_own_lines_are_split_or_read_from_two_files(load, tsv, tmp_path):
    dataset = load("tsv", path=tsv)
    assert dataset.class_names == ("bad", "good") and len(dataset.train.labels) == 24
    assert np.bincount(dataset.test.labels).tolist() == [3, 3]
    numbered = tmp_path / "numbered.tsv"
    numbered.write_bytes(b"\xef\xbb\xbf10\tten\ttabs\r\n9\tnine\r\n10\tten\n9\tnine nine\n")
    dataset = load("tsv", path=numbered, test_path=numbered, length=2, embedding_dim=3)
    assert dataset.class_names == ("9", "10") and dataset.test.labels.tolist() == [1, 0, 1, 0]
    assert dataset.decode(dataset.train.inputs[:1]).tolist() == [["ten", "tabs"]]


BAD_TSV = {
    "no tab": (b"good\tfilm\nbad film\n", {}, "line 2 must be a label, a tab and a text, got 'bad film'"),
    "empty text": (b"good\tfilm\nbad\t  \n", {}, "line 2 .* its text is empty"),
    "empty label": (b"\tfilm\n", {}, "line 1 .* its label is empty"),
    "empty line": (b"good\tfilm\n\nbad\tfilm\n", {}, "line 2 must be a label"),
    "not UTF-8": (
        b"good\tfilm\nbad\tcaf\xe9 au lait\n",
        {},
        "line 2 is not UTF-8 .* at byte 7.* save the file as UTF-8",
    ),
    "nothing": (b"", {}, "line 1 must be a label"),
    "one class": (b"good\tfine film\n" * 9, {}, "there is one class"),
    "no split": (b"good\tfilm\n" * 9, {"test_fraction": 1.5}, "test_fraction must lie between 0 and 1"),
    "two splits": (b"good\tfilm\n", {"test_path": "x", "test_fraction": 0.5}, "exclude each other"),
    "no test file": (b"good\tfilm\n", {"test_path": "/nowhere"}, "/nowhere cannot be read"),
    "vocabulary": (b"good\tfilm\n", {"vocabulary": 2}, "vocabulary must be a whole number of at least 3, got 2"),
    "length": (b"good\tfilm\n", {"length": -1}, "length must be a whole number of at least 1, got -1"),
    "dimension": (b"good\tfilm\n", {"embedding_dim": -1}, "embedding_dim must be a whole number of at least 1"),
    "preprocessing": (b"good\ta film\nbad\ta book\n" * 9, {"preprocessing": "zca"}, "'zca' is for images and numbers"),
    "option": (b"", {"resolution": 8}, "unknown option of data set 'tsv' 'resolution'"),
}


@pytest.mark.parametrize("case", BAD_TSV)
def test_bad_lines_and_options_are_one_line_that_names_the_remedy(case, load, tmp_path):
    contents, options, message = BAD_TSV[case]
    (tmp_path / "bad.tsv").write_bytes(contents)
    refuses(message, load, "tsv", path=tmp_path / "bad.tsv", **options)


def test_other_mistakes(load, tsv, tmp_path):
    refuses("needs path= a text file", load, "tsv")
    (tmp_path / "test.tsv").write_text("ugly\tfilm")
    refuses("test label 'ugly' .* has no training example", load, "tsv", path=tsv, test_path=tmp_path / "test.tsv")
    lines = {"sst5/sst_train.txt": b"__label__6\tfilm\n", "sst5/sst_test.txt": b"__label__1\tfilm\n"}
    write_tree(tmp_path, lines)
    refuses("sst_train.txt, line 1 must be __label__1 to 5", load, "sst5", data_dir=tmp_path)
    refuses("looked for trec/train_5500.label and .*downloads https", load, "trec6", data_dir=tmp_path)


@pytest.mark.parametrize(
    "name, option",
    [("text_lstm", "depth"), ("text_rnn", "width"), ("text_convnet", "width"), ("text_conv_lstm", "width")]
    + [("text_transformer", "num_heads"), ("text_transformer", "depth")],
)
def test_a_text_network_of_nothing_is_refused(name, option):
    with pytest.raises(UserError, match=f"model.{option} must be at least 1, not 0"):
        find("rcig.models", name).make((10, 20), 2, **{option: 0})


def test_the_sets_are_listed_and_prepared(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(prepare, "_download", lambda url, folder: fetched.append((url, folder)))
    with pytest.raises(UserError, match="'trec6' was prepared, but trec/train_5500.label"):  # as nothing was fetched
        prepare.prepare("trec6", tmp_path)
    assert fetched == [(f"{corpora.TREC_URL}/{file}", tmp_path / "trec") for file in corpora.TREC]
    with pytest.raises(UserError, match="'tsv' needs no preparation: it reads your own files"):
        prepare.prepare("tsv", tmp_path)
    write_tree(tmp_path, {f"sst5/{file}": b"" for file in corpora.SST5})
    ended = commands.call("rcig.data.__main__", "list", "--data_dir", tmp_path)
    listed = dict(line.split(maxsplit=1) for line in ended.out.splitlines()[1:])
    assert listed["sst5"] == str(tmp_path / "sst5") and listed["imdb"] == listed["trec50"] == "not found"


# ---------------------------------------------------------------- distillation


def test_sentences_are_written_readably(tmp_path):
    words = np.array([["good", "film", "<pad>"], ["<pad>", "bad", "<pad>"]])
    labels = np.array([[0.04, 3.14, -1.2, 1], [1, 0, 0, 0]], np.float32)
    for step in (5, 10):
        sentences.write_sentences(tmp_path, Synthetic(np.zeros((2, 3, 4)), labels), words, list("abcd"), step)
    folder = tmp_path / "sentences"
    assert sorted(path.name for path in folder.iterdir()) == ["distilled-10.txt", "distilled-5.txt", "latest.txt"]
    expected = "step 10: 2 sentences\n\n1. b 3.1, d 1.0, a 0.0\ngood film\n\n2. a 1.0, b 0.0, c 0.0\nbad\n"
    assert (folder / "latest.txt").read_text() == (folder / "distilled-10.txt").read_text() == expected


def test_starts_and_the_loop_take_texts_as_they_take_images(load, tsv, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "_LEAST_BYTES", 1)  # or so small a batch is not split
    dataset = load("tsv", path=tsv, embedding_dim=4, length=5)
    for name in ("real", "noise", "kmeans"):
        start = initialize.initialize(name, jax.random.key(0), dataset, 2)
        assert start.inputs.shape == (4, 5, 4) and start.inputs.dtype == np.float32
    everything = initialize.everything(dataset).inputs
    assert isinstance(everything, Embedded) and isinstance(everything.tokens, jax.Array)
    np.testing.assert_array_equal(everything[:], dataset.train.inputs[:])

    def run(name, max_resident_bytes):
        schedule = loop.Schedule(3, steps_per_dispatch=2, max_resident_bytes=max_resident_bytes)
        ignore = {"evaluate": lambda *_: {}, "publish": lambda *_: None}
        layout = sharding.layout("jit", 2)
        return loop.run(Pull(None, batch_size=8), dataset, start, schedule, tmp_path / name, layout, **ignore)

    resident, streamed = run("resident", 0), run("streamed", 1)
    np.testing.assert_array_equal(resident.inputs, streamed.inputs)
    assert not np.array_equal(resident.inputs, start.inputs)


def test_the_commands_distil_and_judge_a_text_data_set(tsv, tmp_path, monkeypatch):
    monkeypatch.setattr(rcig.models, "__path__", [*rcig.models.__path__, str(ROOT / "tests/plugins")])
    run, method = tmp_path / "run", ("--config.method.name=pull", "--config.method.batch_size=16")
    sizes = ("--config.data.length=6", "--config.data.embedding_dim=8", "--config.ipc=2", "--config.num_steps=2")
    judge = ("--config.model.name=mean_linear", "--config.eval.num_networks=2", "--config.eval.num_steps=200")
    flags = ("--config=default", "--config.dataset=tsv", f"--config.data.path={tsv}", *sizes, *method, *judge)
    ended = commands.call("distill_dataset", *flags, "--config.eval.learning_rate=0.1", f"--workdir={run}")
    assert ended.status == 0, ended.err
    card = json.loads((run / "distilled/card.json").read_text())
    assert card["pixel_space"] == "embedding" and card["preprocessing"]["dim"] == 8
    assert card["arrays"]["inputs"]["shape"] == [4, 6, 8]
    said = (run / "sentences/latest.txt").read_text()
    assert said == (run / "sentences/distilled-2.txt").read_text() and said.startswith(
        "step 2: 4 sentences\n\n1. bad 0.5"
    )
    assert not (run / "images/latest.png").exists()
    ended = commands.call("eval", f"--distilled={run}", "--full_data_steps=200")
    assert ended.status == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert result["accuracy"] > 0.8 and result["full_data"] > 0.8
    ended = commands.call("eval", f"--distilled={run}", "--config.data.vocabulary=5")
    assert ended.status == 2 and "other vectors than data set tsv now" in ended.err
    path = glove(tmp_path / "glove.txt", love=range(8))
    ended = commands.call("eval", f"--distilled={run}", f"--config.data.embeddings={path}")
    assert ended.status == 2 and "other vectors than data set tsv now" in ended.err
