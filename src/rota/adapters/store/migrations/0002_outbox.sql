-- A letter is a notice to one address; next_try is NULL when it was given up.
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    next_try REAL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX letters_by_time ON letters (next_try) WHERE next_try IS NOT NULL;

-- What people were told of and that is not over yet, beside what the apps' own states say.
CREATE TABLE incidents (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
