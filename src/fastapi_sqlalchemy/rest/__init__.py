"""Resources over HTTP: REST routers and schemas derived from models or from tables."""

from .reflect import Reflection as Reflection
from .reflect import reflect as reflect
from .resource import Resource as Resource
from .resource import ResourceRegistry as ResourceRegistry
from .resource import resource_for as resource_for
from .router import CRUDRouter as CRUDRouter

__all__ = ["CRUDRouter", "Reflection", "Resource", "ResourceRegistry", "reflect", "resource_for"]
