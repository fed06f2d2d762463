# The service of `fever-extract serve`, on a CPU; docs/service.md says how to build and run it.
# Not slim, which has no compiler for the detector's kernels.
FROM python:3.12 AS build
# uv knows where PyTorch's wheels without CUDA are: the default ones are ten times as large.
RUN pip install --no-cache-dir "uv>=0.7"
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /source
# Dependencies first: this layer is built again only when they change.
COPY setup.cfg ./
COPY .ci/requirements.py .ci/
RUN python .ci/requirements.py serve parquet heif > requirements.txt \
    && uv venv /opt/fever \
    && uv pip install --no-cache --python /opt/fever --torch-backend cpu -r requirements.txt
COPY . .
RUN uv pip install --no-cache --python /opt/fever --no-deps .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home fever
COPY --from=build /opt/fever /opt/fever
ENV PATH="/opt/fever/bin:$PATH" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready')"]
# In a container, 127.0.0.1 is the container itself; `docker run -p` says who may call.
ENTRYPOINT ["fever-extract", "serve", "--host", "0.0.0.0"]
