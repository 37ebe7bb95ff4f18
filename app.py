"""Serve predictions, the ranked clients, diagnostics and the dashboard over HTTP.

Reads:  production_deployment/, reports/, ingesteddata/finaldata.csv, testdata/, sourcedata/, access/
Writes: contacts/contacts.sqlite (what people enter about clients), access/ (users, tokens, sessions)
Run:    python app.py [--config PATH] [--host HOST] [--port PORT] [--workers N] [--json-logs]
        python app.py --new-token NAME --role ROLE [--days N] | --new-user NAME --role ROLE
        python app.py --revoke NAME | --list-access
"""

import argparse
import gc
import logging
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attrition import config_file, wording
from attrition.access import commands
from attrition.config import Config
from attrition.errors import AttritionError
from attrition.operations import cli, log
from attrition.storage import permissions
from attrition.web import auth

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger("attrition.app")

PAGES = Path(__file__).resolve().parent / "attrition" / "pages"
WORKERS, MAX_WORKERS = 2, 64
BACKLOG = 256
# Formats of `wording` that the templates use.
FILTERS = ("count", "finished", "minute", "moment", "percent", "plural", "seconds")


def create_app(config: Config | Path | None = None, *, is_closed: bool = False) -> "Flask":
    """Create the app for one config.json; is_closed: every caller needs a token or a user.

    Raises: ConfigError if config.json or a named environment variable is missing or invalid.
    """
    # Imported here, so that a wrong option or a taken port is refused at once.
    import pyarrow as pa
    from flask import Flask

    from attrition.contacts.desk import Desk
    from attrition.pages.routes import pages
    from attrition.serving.production import Production
    from attrition.web import metrics, middleware
    from attrition.web.api import api
    from attrition.web.artifact_cache import ArtifactCache, State
    from attrition.web.parameters import ClientName

    if not isinstance(config, Config):
        config = config_file.load(config)
    pa.set_memory_pool(pa.system_memory_pool())  # it returns freed memory, the default one does not
    app = Flask("attrition", root_path=str(PAGES), static_url_path="/static")
    app.debug = False  # FLASK_DEBUG is ignored
    app.url_map.merge_slashes = False
    app.url_map.converters["client"] = ClientName
    app.jinja_env.filters |= {name: getattr(wording, name) for name in FILTERS}
    production = Production(config.production_folder)
    app.extensions["attrition"] = State(config, ArtifactCache(), production, Desk(config))
    middleware.init_app(app, auth.Access(config, is_closed=is_closed))
    metrics.init_app(app)
    app.register_blueprint(api)
    app.register_blueprint(pages)
    return app


def bind(host: str, port: int) -> socket.socket:
    """Listen on host:port.

    Raises: AttritionError if the port is taken or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AttritionError(
            f"{host}:{port}: cannot listen ({error.strerror}); stop the process that uses the port "
            "or choose another one with --port"
        ) from error
    return listener


def serve(config: Config, workers: int) -> int:
    """Serve until a signal arrives; each worker loads the model before its first request."""
    is_closed = auth.check_exposure(config)
    permissions.check_readable(config)
    try:
        listener = bind(config.api.host, config.api.port)
    except AttritionError as error:
        from attrition.operations.caller import default_url, identify

        answerer = identify(config, default_url(config))
        raise AttritionError(f"{error}; {answerer.sentence}" if answerer else str(error)) from error
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"serving on http://{host}:{port} with {workers} workers, Ctrl-C stops it", flush=True)
    from attrition.web import server

    def load() -> "Flask":
        gc.set_threshold(cli.COLLECT_AFTER)  # else 40 % of the CPU of 10,000 rows goes into it
        app = create_app(config, is_closed=is_closed)
        warm_up(app)
        return app

    server.serve(load, listener, workers=workers)
    return 0


def warm_up(app: "Flask") -> None:
    """Load the model, and answer /health and one prediction: what is called first takes longer."""
    from attrition.web.api import prediction
    from attrition.web.openapi import example_record

    state = app.extensions["attrition"]
    app.test_client().get("/health")
    try:
        record = example_record(state.config.columns, state.production.get()[0])
        with app.test_request_context("/prediction", method="POST", json={"records": [record]}):
            prediction()
    except Exception as error:  # whoever asks for a prediction gets the error
        logger.info("no prediction at the start of this worker: %s", error)


def port_number(text: str) -> int:
    """Return a port number; 0 stands for any free one."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number from 0 to 65535")
    return int(text)


def worker_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number from 1 to {MAX_WORKERS}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--host", help="address to listen on; default: api.host of config.json")
    parser.add_argument(
        "--port",
        type=port_number,
        help="port to listen on, 0 for any free one; default: api.port of config.json",
    )
    parser.add_argument(
        "--workers",
        type=worker_count,
        default=WORKERS,
        help=f"number of processes; default: {WORKERS}",
    )
    parser.add_argument(
        "--json-logs",
        action="store_true",
        help="write the log to stderr as JSON, one line per message and per request",
    )
    commands.add_options(parser)
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        if commands.is_command(options):
            print(commands.run(config, options, auth.read_token(config)))
            return 0
        if options.json_logs:
            log.set_up(quiet=options.quiet, as_json=True)
        host = options.host or config.api.host
        port = config.api.port if options.port is None else options.port
        api = replace(config.api, host=host, port=port)
        return serve(replace(config, api=api), options.workers)

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
