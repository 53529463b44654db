"""The same application on Ray Serve: as many replicas, on as many machines, as the cluster gives it.

serve run contrastill.serving.ray:app bundle=/models/intents threads=2
"""

import dataclasses
import os
from typing import Any, get_args

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # for a cluster that starts here; others are asked elsewhere

from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from contrastill.bundle import open_bundle
from contrastill.errors import UserError
from contrastill.serving.app import make_app
from contrastill.serving.keys import read_keys
from contrastill.settings import Serving

__all__ = ["app"]


def app(arguments: dict[str, Any]) -> Application:
    """A Ray Serve application; the arguments are options of `contrastill serve`, with underscores.

    Host and port are Ray's own to set. What the cluster decides (replicas, autoscaling, CPUs) belongs into its
    configuration file, under the deployment's name, `Bundle`. Replicas are given the sha256 of the keys alone.
    """
    settings = settings_of(arguments)
    keys = read_keys(settings.api_key_file)  # here: a replica elsewhere without file or variable would be open

    def build() -> Starlette:
        bundle = open_bundle(settings.bundle, threads=settings.threads, workers=settings.workers, spin=False)
        return make_app(bundle, settings, keys=keys, echo_ids=False)

    @serve.deployment(
        name="Bundle",
        ray_actor_options={"num_cpus": settings.threads},
        max_ongoing_requests=settings.max_requests,
        max_queued_requests=settings.max_requests,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        graceful_shutdown_timeout_s=settings.drain,
    )
    @serve.ingress(build)
    class Bundle:
        pass

    deployment: Any = Bundle  # by the decorator
    return deployment.bind()


def settings_of(arguments: dict[str, Any]) -> Serving:
    """Settings from a command line or a YAML file, where numbers may be texts. By default a replica has one thread.

    Raises:
        UserError: an option that is unknown, Ray's, or of another type.
    """
    known: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(Serving) if f.name not in ("host", "port")}
    if unknown := set(arguments) - set(known):
        raise UserError(f"expected arguments out of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {"threads": 1}
    for name, value in arguments.items():
        kind = next(iter(get_args(known[name])), known[name])
        try:
            given[name] = kind(value)
        except (TypeError, ValueError):
            raise UserError(f"{name}: expected {kind.__name__}, got {value!r}") from None
    if "bundle" not in given:
        raise UserError("expected the argument bundle=FOLDER, got none")
    return Serving(**given)
