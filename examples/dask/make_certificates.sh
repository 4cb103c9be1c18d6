#!/usr/bin/env bash
# One certificate authority and one certificate for scheduler, workers and you, valid for 90 days.
set -euo pipefail
mkdir -p "${1:?folder}" && cd "$1" && umask 077
openssl req -x509 -newkey rsa:3072 -nodes -days 90 -subj "/CN=cardiometa dask" -keyout ca.key -out ca.pem
openssl req -newkey rsa:3072 -nodes -subj "/CN=dask" -keyout key.pem -out dask.csr
openssl x509 -req -days 90 -in dask.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem
rm dask.csr
