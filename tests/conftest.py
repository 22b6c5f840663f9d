"""Options of the whole run."""


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every combination of the engine's test matrices")
