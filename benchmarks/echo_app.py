"""Run app.py with one more endpoint, POST /echo, which parses its JSON body and sends it back.

Run: python -m benchmarks.echo_app [the options of app.py]
"""

import sys
from typing import Any

from flask import Blueprint, Flask, request

import app

echo = Blueprint("echo", __name__)
create_app = app.create_app


@echo.post("/echo", endpoint="prediction")  # the view's name decides who may use it
def send_back() -> Any:
    return request.get_json()


def create_app_with_echo(*arguments: Any, **options: Any) -> Flask:
    flask = create_app(*arguments, **options)
    flask.register_blueprint(echo)
    return flask


if __name__ == "__main__":
    app.create_app = create_app_with_echo
    sys.exit(app.main())
