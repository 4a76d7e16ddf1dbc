from tests.stores import client, project

__all__ = ["client", "project"]
