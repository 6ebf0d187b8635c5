-- Large objects: empty, small, of several megabytes with every byte, sparse, owned, commented, referred to.

SELECT lo_create(900001), lo_from_bytea(900002, 'petit'::bytea), lo_create(900004), lo_create(900006);
SELECT lo_from_bytea(900003, b) FROM (
  SELECT decode(repeat(string_agg(lpad(to_hex((g * 7 + g / 256) % 256), 2, '0'), '' ORDER BY g), 48), 'hex') AS b FROM generate_series(0, 65535) g) all_bytes;
SELECT lo_put(900004, 5000000, 'end of a hole'::bytea);
SELECT lo_from_bytea(900005, ''::bytea);
SELECT lo_put(900006, 0, decode(repeat('00', 2048), 'hex'));
SELECT lo_from_bytea(4294967294, 'the last object identifier'::bytea);
ALTER LARGE OBJECT 900002 OWNER TO torture_owner;
GRANT SELECT ON LARGE OBJECT 900002 TO torture_reader;
GRANT SELECT, UPDATE ON LARGE OBJECT 900003 TO "o'neil", PUBLIC;
REVOKE ALL ON LARGE OBJECT 900004 FROM CURRENT_USER;
COMMENT ON LARGE OBJECT 900003 IS 'three megabytes';
COMMENT ON LARGE OBJECT 900001 IS 'il n''y a rien';
CREATE TABLE attachments (id int PRIMARY KEY, content oid);
INSERT INTO attachments VALUES (1, 900001), (2, 900002), (3, 900003), (4, 4294967294);
