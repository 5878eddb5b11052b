#!/bin/sh
# MLflow for a team: every user logs in, runs are in PostgreSQL, artifacts in S3. `env.example` lists the environment variables, README.md the steps.
set -eu

: "${PGHOST:?is empty. Name the host where PostgreSQL is, or the folder of its socket.}"
: "${PGPASSWORD:?is empty. Set the password of PostgreSQL.}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?is empty. Set the first password of the admin of MLflow, 12 letters or more.}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?is empty. Set it to the output of: openssl rand -hex 24}"
: "${MLFLOW_ARTIFACTS_DESTINATION:?is empty. Set s3://bucket/prefix.}"

# Some programs treat an empty variable differently from an unset one.
for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_DEFAULT_REGION AWS_ENDPOINT_URL MLFLOW_HOST MLFLOW_PORT; do
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then unset "$name"; fi
done
# S3 servers other than Amazon's seldom have a host name for each bucket.
if [ -n "${AWS_ENDPOINT_URL:-}" ]; then export MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE="${MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE:-path}"; fi

here=$(cd "$(dirname "$0")" && pwd)
export MLFLOW_AUTH_CONFIG_PATH="$here/basic_auth.ini"
# The driver reads the rest from PGHOST ... PGPASSWORD, so that `ps` shows no password.
export MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://
export MLFLOW_DISABLE_TELEMETRY=true
# The server runs no code that a user sends.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_ENABLE_AI_GATEWAY=false MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false

# Without the address, MLflow refuses both the Host header and, from its own pages, the Origin header.
hosts='localhost:*,127.0.0.1:*'
address=${TRACKING_ADDRESS:-}
address=${address%/}
if [ -n "$address" ]; then
    hosts="$hosts,${address#*://}"
    set -- --cors-allowed-origins "$address" "$@"
fi
exec mlflow server --app-name basic-auth --artifacts-destination "$MLFLOW_ARTIFACTS_DESTINATION" --allowed-hosts "$hosts" --workers "${MLFLOW_WORKERS:-2}" "$@"
