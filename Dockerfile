# `contrastill serve` of the bundle that is mounted at /bundle (docs/serve.md, "In a container").
FROM python:3.12-slim-trixie AS build
# requirements.txt: bundles for ONNX Runtime; openvino.txt: those for OpenVINO too
ARG REQUIREMENTS=requirements.txt
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY deploy deploy
RUN pip install --require-hashes --no-deps --only-binary :all: -r deploy/build.txt \
    && python -m venv --without-pip /opt/contrastill \
    && pip --python /opt/contrastill install --require-hashes --no-deps --only-binary :all: -r "deploy/${REQUIREMENTS}"
COPY pyproject.toml README.md LICENSE ./
COPY src src
# --no-deps: torch and what else training needs stay out
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/contrastill install --no-deps --no-index dist/*.whl

FROM python:3.12-slim-trixie
COPY --from=build /opt/contrastill /opt/contrastill
ENV PATH=/opt/contrastill/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
# without the proxy that the environment may name
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health', timeout=8)"]
ENTRYPOINT ["contrastill", "serve", "/bundle", "--host", "0.0.0.0"]
