# syntax=docker/dockerfile:1
# Three images from one file: `--target executor` (server and runner of an executor pod), `--target emulator` (an account
# of E2B, whose sandboxes are executors: the executor's layers and one more) and `--target controlplane` (operator and
# gateway). BASE is any Debian with Python 3.13 and venv; it is named once and used for both stages, so
# that the virtual environment finds the interpreter it was made with.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --quiet "hatchling>=1.27" \
 && python3 -m venv /opt/execpool

# The package as a wheel, without its dependencies: the locks bring those, with hashes.
FROM tools AS wheel
WORKDIR /src
COPY pyproject.toml ./
COPY operator operator
RUN touch README.md && \
    /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels .

FROM tools AS executor-venv
COPY requirements/executor.txt /tmp/executor.txt
RUN /opt/execpool/bin/pip install --quiet --require-hashes --only-binary :all: -r /tmp/executor.txt
# Tests, headers, stubs and documentation are half of the libraries, and no program needs them.
RUN cd /opt/execpool/lib/python3*/site-packages \
 && find . -type d \( -name tests -o -name test -o -name include -o -name __pycache__ -o -name sample_data \) \
      -not -path "./numpy/testing*" -prune -exec rm -rf {} + \
 && find . -type f \( -name "*.pyi" -o -name "*.pxd" -o -name "*.pyx" -o -name "*.c" -o -name "*.h" -o -name "*.a" \) -delete
RUN rm -rf /opt/execpool/lib/python3*/site-packages/pip /opt/execpool/lib/python3*/site-packages/pip-* \
      /opt/execpool/bin/pip* \
 && /opt/execpool/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/execpool/lib
# The list of fonts takes 150 ms to build; every run would do so.
RUN mkdir -p /opt/execpool/share/matplotlib \
 && MPLCONFIGDIR=/opt/execpool/share/matplotlib MPLBACKEND=Agg /opt/execpool/bin/python -c "import matplotlib.pyplot" \
 && chmod -R a+rX /opt/execpool

FROM ${BASE} AS executor
# A name for each user: libraries ask for their home. 1000 runs user code, 1001 owns the claim.
RUN printf 'runner:x:1000:1000:user code:/home/user:/usr/sbin/nologin\nserver:x:1001:1001:executor:/home/user:/usr/sbin/nologin\n' >> /etc/passwd \
 && printf 'runner:x:1000:\nserver:x:1001:\n' >> /etc/group \
 && mkdir -p /home/user /work /run/execpool /var/lib/execpool \
 && chown 1000:1000 /home/user /work && chown 1001:1001 /run/execpool /var/lib/execpool
COPY --from=executor-venv /opt/execpool /opt/execpool
# Our own code as it is, and only the executor's: a change of operator or gateway makes no new executor.
COPY operator/execpool/__init__.py operator/execpool/protocol.py operator/execpool/serving.py /opt/execpool/app/execpool/
COPY operator/execpool/executor /opt/execpool/app/execpool/executor
RUN /opt/execpool/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/execpool/app \
 && chmod -R a+rX /opt/execpool/app
# Nothing is imported from a directory that user code can write to, or a restarted runner would run what it left there.
# Huge pages for malloc halve what a fork costs; bytecode is compiled already and the root is read-only.
ENV PATH=/opt/execpool/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/execpool/app \
    LANG=C.UTF-8 HOME=/home/user PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1 \
    PYTHONMALLOC=malloc GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    MPLCONFIGDIR=/opt/execpool/share/matplotlib \
    EXECPOOL_WORK_DIR=/work EXECPOOL_HOME_DIR=/home/user EXECPOOL_SWEEP_DIRS=/tmp:/dev/shm
USER 1000:1000
WORKDIR /home/user
EXPOSE 49999 49983 49901
ENTRYPOINT ["python", "-m", "execpool.executor.main"]
CMD ["server"]

# In a directory of their own, which no program of a sandbox has on its path.
FROM tools AS emulator-libraries
COPY requirements/emulator.txt /tmp/emulator.txt
RUN /opt/execpool/bin/pip install --quiet --require-hashes --only-binary :all: --no-deps --no-compile \
      --target /opt/emulator -r /tmp/emulator.txt \
 && /opt/execpool/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/emulator \
 && chmod -R a+rX /opt/emulator

FROM executor AS emulator
USER 0:0
COPY --from=emulator-libraries /opt/emulator /opt/emulator
COPY operator/execpool/core /opt/execpool/app/execpool/core
COPY operator/execpool/providers /opt/execpool/app/execpool/providers
COPY operator/execpool/telemetry /opt/execpool/app/execpool/telemetry
COPY operator/execpool/emulator /opt/execpool/app/execpool/emulator
RUN /opt/execpool/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/execpool/app \
 && chmod -R a+rX /opt/execpool/app
ENV PYTHONPATH=/opt/execpool/app:/opt/emulator
USER 1000:1000
EXPOSE 8080 3001
ENTRYPOINT ["python", "-m", "execpool.emulator.main"]
CMD []

FROM tools AS controlplane-venv
COPY requirements/controlplane.txt /tmp/controlplane.txt
RUN /opt/execpool/bin/pip install --quiet --require-hashes --only-binary :all: -r /tmp/controlplane.txt
COPY --from=wheel /wheels /wheels
RUN /opt/execpool/bin/pip install --quiet --no-deps --no-index /wheels/*.whl \
 && rm -rf /opt/execpool/lib/python3*/site-packages/pip /opt/execpool/lib/python3*/site-packages/pip-* \
      /opt/execpool/bin/pip* \
 && find /opt/execpool/lib -type d -name __pycache__ -prune -exec rm -rf {} + \
 && /opt/execpool/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/execpool/lib \
 && chmod -R a+rX /opt/execpool

FROM ${BASE} AS controlplane
RUN printf 'execpool:x:65532:65532:execpool:/nonexistent:/usr/sbin/nologin\n' >> /etc/passwd \
 && printf 'execpool:x:65532:\n' >> /etc/group
COPY --from=controlplane-venv /opt/execpool /opt/execpool
ENV PATH=/opt/execpool/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /
