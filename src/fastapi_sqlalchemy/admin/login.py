"""The login page: a name and a password against the accounts of the store, a session of its own for each login."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates
from starlette_admin.auth import AdminUser, BaseAuthProvider, login_not_required
from starlette_admin.helpers import index_url, safe_redirect_url

from .accounts import Accounts
from .changes import Change
from .guard import visit_of
from .sessions import Sessions

__all__ = ["LoginProvider"]

_WRONG = "This name and password do not open the admin."


class LoginProvider(BaseAuthProvider):
    """Tells starlette-admin who it is, as the guard found out; with ``accounts`` it has pages to log in and out."""

    def __init__(self, accounts: Accounts | None, sessions: Sessions) -> None:
        super().__init__()
        self.accounts = accounts
        self.sessions = sessions
        self._templates: Jinja2Templates | None = None

    async def authenticate(self, request: Request) -> AdminUser | None:
        """Return who sent the request, or None."""
        account = visit_of(request).account
        return None if account is None else AdminUser(username=account)

    def get_routes(self, templates: Jinja2Templates) -> list[Route]:
        """Return the routes of the login."""
        if self.accounts is None:
            return []
        self._templates = templates
        return [
            Route(self.login_path, self.login, methods=["GET", "POST"], name="login"),
            Route(self.logout_path, self.logout, methods=["POST"], name="logout"),
        ]

    @login_not_required
    async def login(self, request: Request) -> Response:
        """Show the form, or check what it sent."""
        assert self.accounts is not None
        visit = visit_of(request)
        target = safe_redirect_url(request.query_params.get("next") or index_url(request), request, index_url(request))
        if request.method != "POST":
            if visit.account is not None:
                return RedirectResponse(target, 303)
            return self._page(request, 200, missing=not await self.accounts.any())
        form = await request.form()
        name, password = str(form.get("username") or ""), str(form.get("password") or "")
        found = await self.accounts.login(name, password, visit.address)
        if found.account is None:
            if found.wait:
                minutes = -(-found.wait // 60)
                answer = self._page(request, 429, error=f"Too many wrong guesses. Try again in {minutes} minutes.")
                answer.headers["Retry-After"] = str(found.wait)
                return answer
            return self._page(request, 401, error=_WRONG)
        async with visit.changes.log(Change(found.account, visit.address, "login", "", "")):
            visit.start = await self.sessions.start(found.account, visit.token)
        return RedirectResponse(target, 303)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        visit = visit_of(request)
        if visit.token is not None:
            async with visit.changes.log(Change(visit.account or "", visit.address, "logout", "", "")):
                await self.sessions.end(visit.token)
        visit.end = True
        return RedirectResponse(str(request.url_for(f"{request.app.state.ROUTE_NAME}:login")), 303)

    def _page(self, request: Request, status: int, *, error: str | None = None, missing: bool = False) -> Response:
        assert self._templates is not None
        context = {"error": error, "missing": missing}
        return self._templates.TemplateResponse(request, "login.html", context, status_code=status)
