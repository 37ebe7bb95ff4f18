"""Roles, and the views of the app that each may use; a view that is not listed here is denied to all.

A view is named by the last part of its Flask endpoint.
"""

from collections.abc import Collection, Sequence

from attrition import wording

READ, PREDICT, FEEDBACK, LEAD, OPERATE = ROLES = (
    *("read", "predict", "feedback", "lead", "operate"),
)
# These need no token: they show no client and change only a session.
FOR_ALL = frozenset({"health", "sign_in"})
FOR_EVERY_ROLE = frozenset({"ready", "openapi", "show_docs", "static", "sign_out"})
STATUS = frozenset(
    {
        *("scoring", "summarystats", "diagnostics", "model_card", "figure"),
        *("show_model", "show_data", "show_system"),
    }
)
CLIENTS = frozenset(
    {
        *("list_clients", "show_client", "list_entries", "contact_list", "report"),
        *("show_today", "show_list", "export_view", "export_workbook", "show_client_page"),
    }
)
ENTER = frozenset({"add_entry", "save_entry", "upload_sheet"})
ENTER_MANY = frozenset({"save_entries"})
# They name the clients who are held out, whom the client managers are not to know.
EXPERIMENT = frozenset({"experiment", "show_effect"})

VIEWS = {
    READ: STATUS | CLIENTS,
    PREDICT: frozenset({"prediction"}),
    FEEDBACK: STATUS | CLIENTS | ENTER,
    LEAD: STATUS | CLIENTS | ENTER | ENTER_MANY | EXPERIMENT,
    OPERATE: STATUS | frozenset({"metrics"}),
}


def describe(roles: Sequence[str]) -> str:
    """Name the roles that somebody has.

    >>> describe(["read"]), describe(["read", "predict"]), describe([])
    ('the role read', 'the roles read and predict', 'no role')
    """
    if not roles:
        return "no role"
    return f"the role{'' if len(roles) == 1 else 's'} {wording.listing(roles, 'and')}"


def may_use(roles: Collection[str], view: str) -> bool:
    """Return whether somebody with these roles may use a view.

    >>> may_use(["predict"], "prediction"), may_use(["predict"], "list_clients"), may_use([], "health")
    (True, False, True)
    """
    if view in FOR_ALL:
        return True
    return any(view in FOR_EVERY_ROLE or view in VIEWS[role] for role in roles)
