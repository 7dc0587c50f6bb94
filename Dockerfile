# One image for every part; the command says which. Build: docker build -t perdure .
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 perdure
WORKDIR /srv/perdure

# The dependencies first, so that a change of the code does not install torch again.
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY perdure/__init__.py perdure/__init__.py
RUN pip install --no-cache-dir --constraint requirements.lock --editable '.[all]'

COPY api api
COPY models models
COPY worker worker
COPY perdure perdure

# Pretrained weights lie on the shared volume, where every worker and the API see them.
ENV PERDURE_HOME=/var/lib/perdure \
    TORCH_HOME=/var/lib/perdure/torch \
    PYTHONUNBUFFERED=1
RUN install -d -o perdure -g perdure /var/lib/perdure /data
USER perdure
VOLUME ["/var/lib/perdure", "/data"]
EXPOSE 8000
ENTRYPOINT ["perdure"]
CMD ["api"]
