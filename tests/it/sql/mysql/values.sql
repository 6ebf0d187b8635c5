-- Values of every type that both servers have, with their extremes. Loaded first, into an empty utf8mb4 database.

SET NAMES utf8mb4;
SET time_zone = '+00:00';
-- Zero dates, the error value of an ENUM and 0 in AUTO_INCREMENT are what old applications have left behind.
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION';

CREATE TABLE integers (
  id int NOT NULL PRIMARY KEY,
  t tinyint, tu tinyint unsigned, s smallint, su smallint unsigned, m mediumint, mu mediumint unsigned,
  i int, iu int unsigned, b bigint, bu bigint unsigned, z int(8) unsigned zerofill, flag bool
) COMMENT = 'it''s "all" integers;\nsecond line \\ backslash, œ 🗞️';
INSERT INTO integers VALUES
  (-2147483648, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 0, false),
  (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42, true),
  (2147483647, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 99999999, 7),
  (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE bits (id int PRIMARY KEY, one bit(1), eight bit(8), nine bit(9), most bit(64) NOT NULL DEFAULT b'1010');
INSERT INTO bits VALUES
  (1, b'0', b'0', b'0', b'0'),
  (2, b'1', b'11111111', b'111111111', b'1111111111111111111111111111111111111111111111111111111111111111'),
  (3, NULL, 0x27, 0x5C, 0x0A0D00095C275C22), (4, b'1', 0x00, 0x100, 0x80);

CREATE TABLE numbers (id int PRIMARY KEY, d decimal(65,30), whole decimal(65,0), u decimal(10,2) unsigned, small decimal(30,30));
INSERT INTO numbers VALUES
  (1, 99999999999999999999999999999999999.999999999999999999999999999999, 99999999999999999999999999999999999999999999999999999999999999999, 99999999.99, 0.999999999999999999999999999999),
  (2, -99999999999999999999999999999999999.999999999999999999999999999999, -99999999999999999999999999999999999999999999999999999999999999999, 0, -0.999999999999999999999999999999),
  (3, 0.000000000000000000000000000001, 0, 0.01, 0.000000000000000000000000000001), (4, NULL, NULL, NULL, NULL);

-- A FLOAT is printed with six digits unless it is asked for as a DOUBLE.
CREATE TABLE floats (id int PRIMARY KEY, f float, d double, scaled float(7,3), fu float unsigned, long_scaled double(30,10));
INSERT INTO floats VALUES
  (1, 3.4028234663852886e38, 1.7976931348623157e308, 9999.999, 3.4028234663852886e38, 1e19),
  (2, -3.4028234663852886e38, -1.7976931348623157e308, -9999.999, 0, -1e19),
  (3, 1.1754943508222875e-38, 2.2250738585072014e-308, 0.001, 1e-45, 0.0000000001),
  (4, 1.401298464324817e-45, 5e-324, 1234.567, 16777216, 123456789.123456789),
  (5, 16777215, 9007199254740993, 0, 0.1, 0.1), (6, 8388607.5, 0.30000000000000004, 0.1, 1.1, 1),
  (7, -0e0, -0e0, -0e0, 0, -0e0), (8, NULL, NULL, NULL, NULL, NULL), (9, 123456.789, 1e23, 16.123, 33554433, 3.3333333333);

CREATE TABLE moments (
  id int PRIMARY KEY, d date, dt datetime, dt6 datetime(6), dt3 datetime(3), ts timestamp NULL, ts6 timestamp(6) NULL,
  t time, t6 time(6), y year, made timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
);
INSERT INTO moments VALUES
  (1, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00.000000', '0000-00-00', '0000-00-00 00:00:00', '0000-00-00', '-838:59:59', '-838:59:58.999999', 0, '2001-01-01 00:00:00'),
  (2, '2024-00-00', '2024-02-00 10:00:00', '2024-00-00 23:59:59.999999', '1000-01-01 00:00:00.001', '1970-01-01 00:00:01', '1970-01-01 00:00:01.000001', '838:59:59', '838:59:58.999999', 1901, '2001-01-01 00:00:00'),
  (3, '9999-12-31', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999', '2038-01-19 03:14:07', '2038-01-19 03:14:07.999999', '00:00:00', '-00:00:00.000001', 2155, '2001-01-01 00:00:00'),
  (4, '0001-01-01', '0001-01-01 00:00:00', '0001-01-01 00:00:00.000001', NULL, NULL, NULL, NULL, NULL, NULL, '2001-01-01 00:00:00'),
  -- In Europe's summer time these are a gap in spring, and twice the same in autumn.
  (5, '2024-03-31', '2024-03-31 02:30:00', '2024-03-31 02:30:00', NULL, '2024-03-31 02:30:00', '2024-03-31 02:30:00', NULL, NULL, NULL, '2024-03-31 02:30:00'),
  (6, '2024-10-27', '2024-10-27 02:30:00', NULL, NULL, '2024-10-27 00:30:00', '2024-10-27 01:30:00', NULL, NULL, NULL, '2024-10-27 00:30:00');

CREATE TABLE choices (
  id int PRIMARY KEY, e enum('a', 'b,c', 'd''e', 'é', '0', '1', 'back\\slash', '"'),
  s set('x', 'y''z', 'é', '0', 'back\\slash') NOT NULL DEFAULT 'x', `empty` enum('', 'full')
) DEFAULT CHARSET = utf8mb4;
-- The fifth holds the error value, which is an empty text and no member; the sixth an empty text that is one.
INSERT INTO choices VALUES
  (1, 'b,c', 'x,y''z,é', 'full'), (2, 'd''e', '', NULL), (3, 'é', 'back\\slash,0', 'full'), (4, '0', '0', 'full'),
  (5, 'no member', 'x', 'no member'), (6, '1', 'x', ''), (7, NULL, 'é', NULL), (8, 'back\\slash', 'x,y''z,é,0,back\\slash', ''), (9, '"', '', '');

CREATE TABLE documents (id int PRIMARY KEY, j json, must json NOT NULL);
INSERT INTO documents VALUES
  (1, '{"a": 1.0, "b": [1e3, 12345678901234567890, null, true], "é": "\\u0000\\t\\n\\"\\\\", "": {}}', '[]'),
  (2, NULL, 'null'), (3, '"a\\nb"', '0.1'), (4, '{"deep": [[[[[[[[{"x": "🗞️"}]]]]]]]]}', '-9223372036854775808');

CREATE TABLE shapes (
  id int PRIMARY KEY, g geometry, p point, l linestring, pg polygon, mp multipoint, ml multilinestring, mpg multipolygon,
  gc geometrycollection
);
INSERT INTO shapes VALUES
  (1, ST_GeomFromText('POINT(1 2)', 4326), ST_GeomFromText('POINT(-1.5 1e-300)'), ST_GeomFromText('LINESTRING(0 0, 1 1, 2 0)'),
   ST_GeomFromText('POLYGON((0 0, 9 0, 9 9, 0 9, 0 0), (1 1, 2 1, 2 2, 1 2, 1 1))'), ST_GeomFromText('MULTIPOINT(1 1, 2 2)'),
   ST_GeomFromText('MULTILINESTRING((0 0, 1 1), (2 2, 3 3))'), ST_GeomFromText('MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)))'),
   ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1), LINESTRING(0 0, 1 1))')),
  (2, ST_GeomFromText('LINESTRING(39.5 92.25, 10 9)', 0), NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- All bytes; a fixed length pads with zeroes, which count.
CREATE TABLE bytes (
  id binary(4) NOT NULL PRIMARY KEY, f binary(16), v varbinary(300), t tinyblob, b blob, m mediumblob, l longblob
);
SET @all = (WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 255)
  SELECT UNHEX(GROUP_CONCAT(LPAD(HEX(i), 2, '0') ORDER BY i SEPARATOR '')) FROM n);
INSERT INTO bytes VALUES
  (0x00000000, @all, @all, LEFT(@all, 255), @all, @all, REPEAT(@all, 1000)), (0x00000001, '', '', '', '', '', ''),
  (0xFFFFFFFF, NULL, NULL, NULL, NULL, NULL, NULL), (0x5C30270A, 'ab', 'ab\0', '\0', '\\N', 'NULL', '\\'), (0x20202020, ' ', '  ', '\t', '\n', '\r\n', 0x1A);

-- Empty beside NULL beside the words for it; trailing spaces; what escapes and ends lines.
CREATE TABLE texts (
  id int PRIMARY KEY AUTO_INCREMENT, c char(10), v varchar(200), t text, ti tinytext, m mediumtext, l longtext
) AUTO_INCREMENT = 1000 DEFAULT CHARSET = utf8mb4;
INSERT INTO texts VALUES
  (0, '', '', '', '', '', ''), (1, NULL, NULL, NULL, NULL, NULL, NULL), (2, 'NULL', '\\N', 'NULL', '\\0', '\\', '\\\\'),
  (3, 'a ', 'a  ', ' a ', '\t', '\n', '\r\n'), (4, 'é😀', 'tab\there', 'line\nbreak\\n', 'nul\0byte', '\Z\b\'\"', REPEAT('😀é ', 50000)),
  (5, '𐍈', CONCAT('e', 0xCC81, ' %_'), 0xEFBFBF, 0xEFBBBF61, 0x7F01, 0xF48FBFBF);
INSERT INTO texts (t) VALUES ('numbered by the server');

CREATE TABLE alphabets (
  id varchar(20) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL PRIMARY KEY,
  l1 text CHARACTER SET latin1, cyrillic varchar(50) CHARACTER SET cp1251, u16 varchar(50) CHARACTER SET utf16,
  u32 varchar(50) CHARACTER SET utf32, sj varchar(50) CHARACTER SET sjis, u3 varchar(50) CHARACTER SET utf8mb3,
  plain varchar(50) CHARACTER SET ascii COLLATE ascii_bin, chinese varchar(50) CHARACTER SET gbk, german varchar(50) COLLATE utf8mb4_german2_ci,
  exact varchar(50) COLLATE utf8mb4_bin, bare varchar(50) CHARACTER SET binary
) DEFAULT CHARSET = latin1;
INSERT INTO alphabets VALUES
  ('été', 'œuvre € ÿ', 'Привет Ґ', '😀é', '😀', 'アソ表\\', 'héé', 'plain ~', '中文縗', 'straße', 'A', 'raw\0'),
  ('ÉTÉ', '', '', '', '', '', '', '', '', '', '', ''), ('', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  -- What latin1 has no letter for is a byte all the same.
  (0x818D8F, CONVERT(0x909D00 USING latin1), CONVERT(0x98 USING cp1251), NULL, NULL, CONVERT(0x955C USING sjis), NULL, NULL, CONVERT(0xBF5C USING gbk), NULL, 'a', 0xFF00);
