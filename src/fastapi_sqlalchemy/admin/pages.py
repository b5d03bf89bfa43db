"""The pages of the admin that are about no single table: the start page, and the log of changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.views import BaseView, CustomView

from .changes import Changes
from .views import ResourceView

__all__ = ["ChangesPage", "StartPage"]

_LATEST = 200

F = TypeVar("F", bound=Callable[..., Any])


def _page(function: F) -> F:
    """Mark the function that answers at the path of its view, as ``starlette_admin.routing.route("")`` does."""
    for name, value in (("_route_path", ""), ("_route_methods", ["GET"]), ("_route_name", None)):
        setattr(function, name, value)
    return function


class StartPage(CustomView):
    """What there is, and what is left out and why."""

    def __init__(
        self, views: Callable[[], Sequence[BaseView]], skipped: Sequence[tuple[str, str]], *, write: bool
    ) -> None:
        super().__init__(menu_label="Start", path="/", route_name="index", add_to_menu=False)
        self.views = views
        self.skipped = skipped
        self.has_write = write

    @_page
    async def index(self, request: Request) -> Response:
        """The start page."""
        views = [view for view in self.views() if isinstance(view, ResourceView)]
        context = {"tables": views, "skipped": self.skipped, "has_write": self.has_write}
        return _rendered(self, request, "admin/start.html", context)


class ChangesPage(CustomView):
    """The newest entries of the log of changes."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(
            menu_label="Changes", icon="fa-solid fa-clock-rotate-left", path="/_changes", route_name="changes"
        )
        self.changes = changes

    @_page
    async def index(self, request: Request) -> Response:
        """The log."""
        context = {"title": "Changes", "entries": await self.changes.latest(_LATEST)}
        return _rendered(self, request, "admin/changes.html", context)


def _rendered(view: CustomView, request: Request, template: str, context: dict[str, Any]) -> Response:
    assert view.templates is not None
    return view.templates.TemplateResponse(request, template, context)
