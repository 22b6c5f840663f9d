#!/bin/sh
# Writes the secrets that are not there yet into ./secrets. How to replace a key: ../README.md.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

for name in postgres_password api_keys admin_keys grafana_password; do
    [ -s "secrets/$name" ] || { random; echo; } > "secrets/$name"
done
printf '[excise]\nhost=postgres\ndbname=excise\nuser=excise\npassword=%s\nconnect_timeout=5\n' \
    "$(cat secrets/postgres_password)" > secrets/postgres_service

# Containers read the files as users of their own. The folder is closed to everybody else on this machine.
chmod 700 secrets
chmod 644 secrets/*
