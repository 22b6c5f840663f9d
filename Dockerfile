# docker build --target cpu -t excise:cpu .        docker build --target gpu -t excise:gpu .
# docker run -p 127.0.0.1:8000:8000 -v $PWD/models:/models:ro -v excise:/store -e EXCISE_ADMIN_KEYS=… -e EXCISE_API_KEYS=… \
#     --read-only --tmpfs /tmp:exec -v /cache excise:cpu --model /models/llama
#
# Runs as user 10001, who owns nothing but /store (mask files, the default database) and /cache (what vLLM and torch
# compile and download); /tmp must be writable too. The rest may be read-only. All of it brought up: deploy/README.md.

FROM python:3.11-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends g++ libgomp1 libnuma1 make \
    && rm -rf /var/lib/apt/lists/* && useradd --uid 10001 --home-dir /cache --no-create-home excise \
    && install -d -o excise -g excise /store /cache
WORKDIR /excise
COPY Makefile requirements-cpu.lock pyproject.toml README.md LICENSE NOTICE excise.py ./
COPY masks masks
COPY behaviours behaviours
COPY edits edits
COPY stats stats
COPY correction correction
COPY service service
COPY commands commands
COPY demo demo
RUN make setup && .venv/bin/python -m pip cache purge \
    && .venv/bin/python -m compileall -q excise.py masks behaviours edits stats correction service commands demo
ENV EXCISE_STORE=/store HOME=/cache TORCHINDUCTOR_CACHE_DIR=/cache/inductor PATH=/excise/.venv/bin:$PATH
USER 10001:10001
VOLUME ["/store", "/cache"]
EXPOSE 8000
ENTRYPOINT ["excise", "serve", "--host", "0.0.0.0"]

FROM vllm/vllm-openai:v0.32.0 AS gpu
WORKDIR /excise
COPY requirements-gpu.txt .
RUN pip install --no-cache-dir -r requirements-gpu.txt
COPY pyproject.toml README.md LICENSE NOTICE excise.py ./
COPY masks masks
COPY behaviours behaviours
COPY edits edits
COPY stats stats
COPY correction correction
COPY service service
COPY commands commands
COPY demo demo
RUN pip install --no-cache-dir --no-deps . && useradd --uid 10001 --home-dir /cache --no-create-home excise \
    && install -d -o excise -g excise /store /cache
ENV EXCISE_STORE=/store HOME=/cache TORCHINDUCTOR_CACHE_DIR=/cache/inductor
USER 10001:10001
VOLUME ["/store", "/cache"]
EXPOSE 8000
ENTRYPOINT ["excise", "serve", "--host", "0.0.0.0"]
