"""Sign in with a name and a password, or with a token, and sign out."""

from typing import Any

from flask import g, redirect, request

from attrition.access import roles, sessions
from attrition.access.credentials import OPEN, Caller
from attrition.web import auth, middleware

HOMES = {"show_today": "/", "show_system": "/system", "show_docs": "/docs"}


def sign_in() -> Any:
    """Show the form, or begin a session and redirect to the page that was asked for.

    Raises: ApiError 401, which shows the form, 429, 503.
    """
    if g.caller.kind == OPEN:
        return redirect("/", 303)
    if request.method != "POST":
        raise auth.unidentified()
    form, address = request.form, request.remote_addr or ""
    password = form.get("password", "")
    access = middleware.get_access()
    g.caller, cookie = access.sign_in(form.get("name", ""), password, address)
    if old := request.cookies.get(auth.COOKIE):
        access.sign_out(old)
    response = redirect(home(g.caller, form.get("next", "")), 303)
    age_s = sessions.HOURS * 3600
    response.set_cookie(
        auth.COOKIE, cookie, max_age=age_s, secure=True, httponly=True, samesite="Strict"
    )
    return response


def sign_out() -> Any:
    """End the session in all workers, and forget the name used for entries."""
    if cookie := request.cookies.get(auth.COOKIE):
        middleware.get_access().sign_out(cookie)
    response = redirect("/sign-in", 303)
    response.delete_cookie(auth.COOKIE, secure=True, httponly=True, samesite="Strict")
    response.delete_cookie("by", httponly=True, samesite="Lax")
    return response


def home(caller: Caller, wanted: str) -> str:
    """Return the wanted path if it is our own, else the first page that the caller may use."""
    if wanted != "/" and auth.is_own_path(wanted):
        return wanted
    own = [path for view, path in HOMES.items() if roles.may_use(caller.roles, view)]
    return own[0] if own else "/docs"
