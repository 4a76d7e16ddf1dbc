from tests.stores import client, project

__all__ = ["client", "project"]


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: opens pages in headless Chromium; deselect with -m 'not browser'")
