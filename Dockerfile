# docker build -t uda .                                  for CPUs
# docker build -t uda --build-arg DEVICE=cuda .          for NVIDIA GPUs
#
# docker run --rm -v uda-outputs:/app/outputs uda                                      the main job
# docker run --rm --gpus all -v uda-outputs:/app/outputs uda                           the same on a GPU
# docker run --rm -v uda-outputs:/app/outputs uda uda.train +experiment=imdb seed=1    any other command
#
# With a folder of yours as outputs, run as yourself:
# mkdir -p outputs && docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/outputs:/app/outputs" uda
FROM python:3.11-slim

ARG DEVICE=cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

WORKDIR /src

# The large layers come first: they change only with the pins. torch comes without its dependencies here, so that
# all of them are resolved below, under the constraints.
COPY constraints.txt requirements-demo.txt ./
RUN set -eu; \
    torch="$(grep '^torch==' constraints.txt)"; \
    case "$DEVICE" in \
        cpu) pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch" ;; \
        cuda) pip install -c constraints.txt "$torch" ;; \
        *) echo "DEVICE must be cpu or cuda, found '$DEVICE'" >&2; exit 1 ;; \
    esac
RUN pip install --no-deps --require-hashes -r requirements-demo.txt

COPY LICENSE README.md pyproject.toml ./
COPY configs ./configs
COPY uda ./uda
RUN pip install -c constraints.txt .

# HOME and USER are set and open to all, so that `--user` works with a number that has no account here.
RUN useradd --create-home --shell /usr/sbin/nologin uda \
    && mkdir -p /app/outputs \
    && chown -R uda:uda /app \
    && chmod 1777 /home/uda /app/outputs
ENV HOME=/home/uda \
    USER=uda
USER uda
WORKDIR /app
VOLUME /app/outputs

ENTRYPOINT ["python", "-m"]
CMD ["uda.train", "+experiment=imdb"]
