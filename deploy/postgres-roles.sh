#!/bin/sh
# Makes the application's login role beside the owner, once, when the database is first made. What
# the group role `cutout_app` may do is the first migration's to say.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$CUTOUT_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE cutout_app NOLOGIN;
CREATE ROLE cutout LOGIN PASSWORD :'password' IN ROLE cutout_app;
SQL
