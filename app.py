"""Serve predictions, the ranked clients, diagnostics and the dashboard over HTTP.

Reads:  production_deployment/, reports/, ingesteddata/finaldata.csv, testdata/, sourcedata/
Writes: contacts/contacts.sqlite, what people enter about clients
Run:    python app.py [--config PATH] [--host HOST] [--port PORT] [--workers N]
"""

import gc
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from flask import Flask
from werkzeug.routing import BaseConverter

from attrition import config as configuration
from attrition import wording
from attrition.config import Config
from attrition.contacts.desk import Desk
from attrition.errors import AttritionError
from attrition.operations import cli
from attrition.operations.caller import default_url, identify
from attrition.pages.routes import pages
from attrition.serving.production import Production
from attrition.storage import permissions
from attrition.web import auth, metrics, middleware
from attrition.web.api import api
from attrition.web.artifact_cache import ArtifactCache, State, optional

PAGES = Path(__file__).resolve().parent / "attrition" / "pages"
WORKERS = 2
# Formats of `wording` that the templates use.
FILTERS = ("count", "finished", "minute", "moment", "percent", "plural", "seconds")


class ClientName(BaseConverter):
    """Converter for a client's name in a URL: any text, slashes included."""

    regex = r"[\s\S]+"
    part_isolating = False


def create_app(config: Config | Path | None = None) -> Flask:
    """Create the app for one config.json.

    Raises: ConfigError if config.json or a named environment variable is missing or invalid.
    """
    if not isinstance(config, Config):
        config = configuration.load(config)
    pa.set_memory_pool(pa.system_memory_pool())  # it returns freed memory, the default one does not
    app = Flask("attrition", root_path=str(PAGES), static_url_path="/static")
    app.debug = False  # FLASK_DEBUG is ignored
    app.url_map.merge_slashes = False
    app.url_map.converters["client"] = ClientName
    app.jinja_env.filters |= {name: getattr(wording, name) for name in FILTERS}
    token = auth.read_token(config)
    production = Production(config.production_folder)
    app.extensions["attrition"] = State(config, ArtifactCache(), production, token, Desk(config))
    middleware.init_app(app, config.api.host, token)
    metrics.init_app(app)
    app.register_blueprint(api)
    app.register_blueprint(pages)
    return app


def serve(config: Config, workers: int) -> int:
    """Serve until a signal arrives; each worker loads the model before its first request."""
    from attrition.web import server

    auth.check_exposure(config.api.host, auth.read_token(config))
    permissions.check_readable(config)

    def load() -> Flask:
        gc.set_threshold(
            cli.COLLECT_AFTER
        )  # else 40 % of the CPU of 10,000 rows goes into the search
        app = create_app(config)
        optional(app.extensions["attrition"].production.get)
        return app

    try:
        listener = server.bind(config.api.host, config.api.port)
    except AttritionError as error:
        answerer = identify(config, default_url(config))
        raise AttritionError(f"{error}; {answerer.sentence}" if answerer else str(error)) from error
    host, port = listener.getsockname()[:2]
    print(f"serving on http://{host}:{port} with {workers} workers, Ctrl-C stops it", flush=True)
    server.serve(load, listener, workers=workers)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--host", help="address to listen on; default: api.host of config.json")
    parser.add_argument(
        "--port", type=int, help="port to listen on; default: api.port of config.json"
    )
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help=f"processes; default: {WORKERS}"
    )
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        host = options.host or config.api.host
        port = config.api.port if options.port is None else options.port
        api = replace(config.api, host=host, port=port)
        return serve(replace(config, api=api), options.workers)

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
