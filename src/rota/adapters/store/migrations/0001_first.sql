-- A rollout's name is given again when an app is removed and made anew: created_at tells the two apart.
PRAGMA application_id = 1919906913;

CREATE TABLE rollouts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    created_at REAL NOT NULL,
    app TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (name, created_at)
) STRICT;
CREATE INDEX rollouts_by_app ON rollouts (app);

-- body is the state without its releases and its rollout, which have tables of their own.
CREATE TABLE apps (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    rollout INTEGER REFERENCES rollouts (number)
) STRICT;

CREATE TABLE releases (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (app, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    rollout TEXT,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_app ON events (app);
CREATE INDEX events_by_rollout ON events (rollout) WHERE rollout IS NOT NULL;

CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
