# docker build --target cpu -t excise:cpu .        docker build --target gpu -t excise:gpu .
# docker run -p 8000:8000 -v $PWD/models:/models -v excise:/store -e EXCISE_ADMIN_KEYS=… -e EXCISE_API_KEYS=… \
#     excise:cpu --model /models/llama

FROM python:3.11-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends g++ libgomp1 libnuma1 make \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home excise && install -d -o excise /excise /store
USER excise
WORKDIR /excise
COPY --chown=excise Makefile requirements-cpu.lock pyproject.toml README.md excise.py ./
COPY --chown=excise masks masks
COPY --chown=excise behaviours behaviours
COPY --chown=excise edits edits
COPY --chown=excise correction correction
COPY --chown=excise service service
COPY --chown=excise demo demo
RUN make setup && .venv/bin/python -m pip cache purge
ENV EXCISE_STORE=/store
VOLUME /store
EXPOSE 8000
ENTRYPOINT [".venv/bin/excise", "serve", "--host", "0.0.0.0"]

FROM vllm/vllm-openai:v0.32.0 AS gpu
WORKDIR /excise
COPY requirements-gpu.txt .
RUN pip install --no-cache-dir -r requirements-gpu.txt
COPY pyproject.toml README.md excise.py ./
COPY masks masks
COPY behaviours behaviours
COPY edits edits
COPY correction correction
COPY service service
COPY demo demo
RUN pip install --no-cache-dir --no-deps . && useradd --create-home excise && install -d -o excise /store
USER excise
ENV EXCISE_STORE=/store
VOLUME /store
EXPOSE 8000
ENTRYPOINT ["excise", "serve", "--host", "0.0.0.0"]
