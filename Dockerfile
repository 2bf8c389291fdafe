# The images of the operator (Python and the Kubernetes client, no Kamailio) and the proxy (Kamailio, rtpengine and the agent:
# the same files that the embedded cluster runs). NAME says which.
# BASE is Debian 13 with apt; `make images` makes its own where none is named.
ARG BASE=debian:13-slim
ARG NAME

FROM ${BASE} AS root
RUN apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends debian-archive-keyring mmdebstrap python3-venv
WORKDIR /project
# ca.crt is there where this machine knows its package index by a certificate authority of its own.
COPY pyproject.toml requirements.lock build/ca.cr[t] ./
COPY proxy/debian.sh proxy/packages proxy/runtime_requirements.py proxy/
ARG NAME
ARG PIP_INDEX_URL
RUN if [ -e ca.crt ]; then export PIP_CERT=/project/ca.crt; fi && \
    proxy/debian.sh "$NAME" /root.tar && mkdir /root-fs && tar -xf /root.tar -C /root-fs

FROM root AS package
COPY operator/switchboard /root-fs/opt/switchboard/operator/switchboard
RUN chroot /root-fs python3 -m compileall -q /opt/switchboard/operator

FROM scratch AS common
COPY --from=root /root-fs /
COPY --from=package /root-fs/opt/switchboard/operator /opt/switchboard/operator
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
USER 10001:10001

FROM common AS operator
CMD ["switchboard-operator"]
LABEL org.opencontainers.image.description="Switchboard's operator: runs fleets of VoIP proxies"

FROM common AS proxy
COPY proxy/bin /opt/switchboard/proxy/bin
COPY proxy/kamailio /opt/switchboard/proxy/kamailio
CMD ["/opt/switchboard/proxy/bin/kamailio"]
LABEL org.opencontainers.image.description="Switchboard's VoIP proxy: Kamailio, rtpengine and their agent"

FROM ${NAME}
ARG NAME
ARG VERSION=dev
LABEL org.opencontainers.image.title="switchboard-${NAME}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
