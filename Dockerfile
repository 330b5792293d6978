# One image for each service: docker build --build-arg SERVICE=aligner .
# (aligner, schema or merger). Static binary, no shell, no root.
ARG GO_VERSION=1.26
FROM golang:${GO_VERSION} AS build
ARG SERVICE
ARG VERSION=development
WORKDIR /src
# Modules first, so that a change of code does not fetch them again.
COPY go.mod go.sum ./
COPY services/${SERVICE}/go.mod services/${SERVICE}/go.sum services/${SERVICE}/
RUN --mount=type=cache,target=/go/pkg/mod \
    cd services/${SERVICE} && GOWORK=off go mod download
COPY fault fault
COPY gen gen
COPY grid grid
COPY internal internal
COPY services/${SERVICE} services/${SERVICE}
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd services/${SERVICE} && CGO_ENABLED=0 GOWORK=off go build -trimpath \
    -ldflags "-s -w -X github.com/rasterloom/rasterloom/internal/boot.version=${VERSION}" \
    -o /service ./cmd/${SERVICE}

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /service /service
USER nonroot
ENTRYPOINT ["/service"]
# The binary asks itself: there is nothing else in the image that could.
HEALTHCHECK --interval=5s --timeout=6s --start-period=30s --retries=3 CMD ["/service", "healthcheck"]
