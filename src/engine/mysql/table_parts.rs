//! The statement that makes a table, in parts: what must be there before its rows, and what is made faster after them.

/// A table's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableParts {
    /// Its beginning, to the opening parenthesis.
    head: String,
    /// Columns, keys and constraints.
    items: Vec<String>,
    /// Its end, from the closing parenthesis.
    tail: String,
}

impl TableParts {
    /// Takes a statement of the server apart. `None` if it is not what servers write.
    pub(super) fn parse(create: &str) -> Option<Self> {
        let (head, rest) = create.split_once("(\n")?;
        let (mut items, mut item, mut depth, mut quote) = (Vec::new(), String::new(), 0_usize, None);
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                // An escaped character is what it is.
                (Some(q), '\\') if q != '`' => {
                    item.push(c);
                    item.extend(chars.next().map(|(_, next)| next));
                    continue;
                }
                (Some(q), c) if c == q => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"' | '`') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') if depth == 0 => {
                    items.push(item.trim().to_owned());
                    return Some(Self { head: head.to_owned(), items, tail: rest[at..].to_owned() });
                }
                (None, ')') => depth -= 1,
                (None, ',') if depth == 0 => {
                    items.push(std::mem::take(&mut item).trim().to_owned());
                    continue;
                }
                (None, _) => {}
            }
            item.push(c);
        }
        None
    }

    /// The statement without what comes after the rows.
    pub(super) fn first(&self) -> String {
        let waits = |item: &str| is_foreign(item) || (is_key(item) && self.keys_can_wait());
        let keep = |item: &&String| !waits(item);
        let items: Vec<&str> = self.items.iter().filter(keep).map(String::as_str).collect();
        format!("{}(\n  {}\n{}", self.head, items.join(",\n  "), self.tail)
    }

    /// What makes its keys, after the rows: all by one ALTER TABLE, so that they are in the same order.
    pub(super) fn keys(&self) -> Option<String> {
        let keys = self.items.iter().filter(|item| self.keys_can_wait() && is_key(item));
        let all: Vec<String> = keys.map(|key| format!("ADD {key}")).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Its foreign keys.
    pub(super) fn foreign_keys(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter(|item| is_foreign(item)).map(String::as_str)
    }

    /// The same statement, whatever the order of keys: each line of it.
    pub(super) fn lines(&self) -> Vec<String> {
        let column = |item: &&String| item.starts_with('`');
        let mut rest: Vec<String> = self.items.iter().filter(|item| !column(item)).cloned().collect();
        rest.sort();
        let columns = self.items.iter().filter(column).cloned();
        [self.head.clone()].into_iter().chain(columns).chain(rest).chain([self.tail.clone()]).collect()
    }

    /// Whether rows can be loaded without secondary keys: a counter needs one, and only InnoDB makes them faster afterwards.
    fn keys_can_wait(&self) -> bool {
        let counts = self.items.iter().find(|item| item.contains(" AUTO_INCREMENT"));
        let primary = self.items.iter().find_map(|item| item.strip_prefix("PRIMARY KEY ("));
        let counted = counts
            .and_then(|item| item.strip_prefix('`')?.split_once('`'))
            .map(|(name, _)| format!("`{name}`"));
        let has_key = match (&counted, primary) {
            (None, _) => true,
            (Some(name), Some(key)) => key.starts_with(name.as_str()),
            (Some(_), None) => false,
        };
        has_key && self.tail.contains("ENGINE=InnoDB") && !self.tail.contains("PARTITION BY")
    }
}

fn is_foreign(item: &str) -> bool {
    item.starts_with("CONSTRAINT ") && item.contains(" FOREIGN KEY ")
}

fn is_key(item: &str) -> bool {
    ["KEY ", "UNIQUE KEY ", "FULLTEXT KEY ", "SPATIAL KEY "].iter().any(|start| item.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE `t (\n` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `a` varchar(9) DEFAULT ',)\\',' COMMENT 'it''s, KEY `x`',\n  \
         `e` enum('a,b','c)') DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`a`),\n  KEY `k` (`a`(3),`e`),\n  FULLTEXT KEY `f` (`a`),\n  \
         CONSTRAINT `c` FOREIGN KEY (`id`) REFERENCES `t2` (`id`),\n  CONSTRAINT `d` CHECK (`id` > 0)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4";

    #[test]
    fn keys_and_foreign_keys_come_after_the_rows() {
        let table = TABLE.replace("t (\n", "t");
        let parts = TableParts::parse(&table).unwrap();
        assert_eq!(parts.items.len(), 9, "{:?}", parts.items);
        let keys = "ADD UNIQUE KEY `u` (`a`), ADD KEY `k` (`a`(3),`e`), ADD FULLTEXT KEY `f` (`a`)";
        assert_eq!(parts.keys().as_deref(), Some(keys));
        assert_eq!(
            parts.foreign_keys().collect::<Vec<_>>(),
            ["CONSTRAINT `c` FOREIGN KEY (`id`) REFERENCES `t2` (`id`)"]
        );
        let first = parts.first();
        assert!(!first.contains("`u`") && !first.contains("`c`") && first.contains("CHECK"), "{first}");
        assert!(first.ends_with("\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"), "{first}");
    }

    #[test]
    fn a_counter_keeps_the_key_that_it_needs() {
        let table = TABLE.replace("t (\n", "t").replace("PRIMARY KEY (`id`)", "PRIMARY KEY (`a`,`id`)");
        let parts = TableParts::parse(&table).unwrap();
        assert_eq!(parts.keys(), None);
        assert!(parts.first().contains("`u`"));
    }

    #[test]
    fn keys_in_another_order_are_the_same_but_columns_are_not() {
        let parts = |text: &str| TableParts::parse(text).unwrap().lines();
        let table = TABLE.replace("t (\n", "t");
        let swapped = table.replace(
            "UNIQUE KEY `u` (`a`),\n  KEY `k` (`a`(3),`e`)",
            "KEY `k` (`a`(3),`e`),\n  UNIQUE KEY `u` (`a`)",
        );
        assert_ne!(table, swapped);
        assert_eq!(parts(&table), parts(&swapped));
        let columns = table
            .replace("(\n  `id` int NOT NULL AUTO_INCREMENT,", "(\n")
            .replace("DEFAULT NULL,\n", "DEFAULT NULL,\n  `id` int NOT NULL AUTO_INCREMENT,\n");
        assert_ne!(parts(&table), parts(&columns));
    }
}
