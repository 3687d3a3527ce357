-- What the user wrote to a run after it was submitted. Of runs that are there already the engine's next start, or a rebuild, fills
-- both in from the journals.

ALTER TABLE runs ADD COLUMN note VARCHAR DEFAULT '';

ALTER TABLE runs ADD COLUMN baseline BOOLEAN DEFAULT FALSE;
