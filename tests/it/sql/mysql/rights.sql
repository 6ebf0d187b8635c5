-- Rights on the database, on its tables, columns and routines; loaded after users and roles were made.

SET @grants = CONCAT('GRANT SELECT, SHOW VIEW ON `', REPLACE(DATABASE(), '_', '\\_'), '`.* TO torture_readers');
PREPARE s FROM @grants;
EXECUTE s;
GRANT SELECT, INSERT ON texts TO `torture o'neil`@`%.example.org` WITH GRANT OPTION;
GRANT SELECT (id, t), UPDATE (`v`), REFERENCES (id) ON texts TO torture_plain@localhost;
GRANT SELECT (`order``by`, `a.b`) ON `select` TO torture_readers;
GRANT EXECUTE ON FUNCTION doubled TO torture_readers;
GRANT EXECUTE, ALTER ROUTINE ON PROCEDURE several TO torture_plain@localhost;
