import masks
from masks import errors


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn = {}
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        word = line.lstrip(" │├└─").split(" ")[0]
        if word in vars(errors):
            depth = line.index(word)
            drawn[word] = next((parents[d] for d in sorted(parents, reverse=True) if d < depth), "ValueError")
            parents = {d: name for d, name in parents.items() if d < depth} | {depth: word}
    real = {name: kind.__bases__[0].__name__ for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert drawn == real


def test_every_error_is_exported() -> None:
    assert {name for name, kind in vars(errors).items() if isinstance(kind, type)} <= set(masks.__all__)
