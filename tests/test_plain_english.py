"""Prose as one speaks it: standard verbs, conditions with if and when, names for what they hold.

Counted over the docstrings, comments and messages of the product. The bounds are those of well-kept
code bases of the same size, with some room.
"""

import ast
import io
import re
import tokenize
from functools import cache

import pytest

from tests.conftest import ROOT

FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "attrition").rglob("*.py")])
FAMILIES = {
    "say": {"say", "says", "said", "saying"},
    "tell": {"tell", "tells", "told", "telling"},
    "hold": {"hold", "holds", "held", "holding"},
}
VAGUE_NAMES = {"found", "told", "made", "said"}
MAX_PER_1000_WORDS, MIN_CONDITIONS_PER_1000_WORDS, MAX_VAGUE_PER_1000_BINDINGS = 1.0, 10.0, 2.0


def docstrings(tree):
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, holders)]


def comments(text):
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def messages(tree):
    """String constants, parts of f-strings too, that read as a sentence or a piece of one."""
    ours = {id(node.body[0].value) for node in ast.walk(tree) if starts_with_text(node)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [
        node.value for node in constants if isinstance(node.value, str) and id(node) not in ours
    ]
    return [text for text in texts if len(re.findall(r"[A-Za-z]+", text)) >= 2 and " " in text]


def starts_with_text(node):
    body = getattr(node, "body", None)
    return isinstance(body, list) and bool(body) and isinstance(body[0], ast.Expr)


@cache
def prose():
    texts = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        texts += [*docstrings(tree), *comments(text), *messages(tree)]
    return re.findall(r"[a-z]+", re.sub(r">>> .*", "", "\n".join(texts)).lower())


@cache
def bindings():
    names = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.append(node.id)
            elif isinstance(node, ast.arg):
                names.append(node.arg)
    return names


def per_1000(count, total):
    return 1000 * count / total


@pytest.mark.parametrize("family", FAMILIES)
def test_prose_begins_with_the_standard_verb_instead_of(family):
    words = prose()
    assert (
        per_1000(sum(word in FAMILIES[family] for word in words), len(words)) < MAX_PER_1000_WORDS
    )


def test_conditions_are_put_with_if_and_when():
    words = prose()
    count = sum(word in ("if", "when") for word in words)
    assert per_1000(count, len(words)) > MIN_CONDITIONS_PER_1000_WORDS


def test_variables_are_named_for_what_they_hold():
    names = bindings()
    count = sum(name in VAGUE_NAMES for name in names)
    assert per_1000(count, len(names)) < MAX_VAGUE_PER_1000_BINDINGS
