//! Invents people, subscriptions and payments, and writes them.

use rusqlite::{Statement, Transaction, params};

use super::names::{FAMILIES, MEN, SECOND_LINES, STREETS, TOWNS, WOMEN};
use super::plans::{PLANS, TODAY};
use super::random::Random;

/// At most so many of a subscription's latest payments are kept in the table; older ones were archived.
const KEPT_PAYMENTS: u64 = 4;

/// Invents rows and writes them.
pub(super) struct Writer<'a> {
    pub random: Random,
    pub days: Vec<String>,
    subscriber: Statement<'a>,
    address: Statement<'a>,
    subscription: Statement<'a>,
    payment: Statement<'a>,
    suspension: Statement<'a>,
    /// Indexes into [`TOWNS`], each as often as its weight.
    towns: Vec<usize>,
}

impl<'a> Writer<'a> {
    /// Writes in this transaction, with the random numbers of this seed.
    pub(super) fn new(tx: &'a Transaction<'_>, seed: u64) -> rusqlite::Result<Self> {
        let towns =
            TOWNS.iter().enumerate().flat_map(|(i, town)| std::iter::repeat_n(i, usize::from(town.2)));
        Ok(Self {
            random: Random::new(seed),
            days: days(),
            subscriber: tx
                .prepare("INSERT INTO subscribers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?,
            address: tx.prepare("REPLACE INTO addresses VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            subscription: tx.prepare("INSERT INTO subscriptions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            payment: tx.prepare("INSERT INTO payments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            suspension: tx.prepare("INSERT INTO suspensions VALUES (?1, ?2, ?3, ?4, ?5)")?,
            towns: towns.collect(),
        })
    }

    /// A new person, with an address.
    pub(super) fn subscriber(&mut self, id: u64, created: usize) -> rusqlite::Result<()> {
        let random = &mut self.random;
        let woman = random.chance(52);
        let first = *random.pick(if woman { &WOMEN } else { &MEN });
        let last = *random.pick(&FAMILIES);
        let provider = random.pick(&["courriel", "boite-aux-lettres", "messagerie", "armor-net"]);
        let email = format!("{}.{}{id}@{provider}.example", plain(first), plain(last));
        let digits = random.below(10_000);
        // The ranges that Arcep keeps for fiction: 06 39 98 and 02 61 91.
        let range = if random.chance(70) { "06 39 98" } else { "02 61 91" };
        let phone = format!("{range} {:02} {:02}", digits / 100, digits % 100);
        let birth = random.chance(80).then(|| random.between(1932, 2004) as i64);
        let has_phone = random.chance(90);
        self.subscriber.execute(params![
            id as i64,
            if woman { "Mme" } else { "M." },
            first,
            last,
            email,
            has_phone.then_some(phone),
            birth,
            self.days[created],
            random.chance(61),
            random.chance(18),
        ])?;
        self.address(id, created)
    }

    /// A new address for a person, in the place of the one there was.
    pub(super) fn address(&mut self, subscriber: u64, since: usize) -> rusqlite::Result<()> {
        let random = &mut self.random;
        let (postcode, city, _) = TOWNS[*random.pick(&self.towns)];
        let longest = if random.chance(80) { 60 } else { 260 };
        let suffix = if random.chance(8) { " bis" } else { "" };
        let number = random.between(1, longest);
        let line1 = format!("{number}{suffix} {}", random.pick(&STREETS));
        let line2 = random.chance(22).then(|| *random.pick(&SECOND_LINES));
        self.address.execute(params![subscriber as i64, line1, line2, postcode, city, self.days[since]])?;
        Ok(())
    }

    /// A subscription that ended on a day, or still runs. Returns the index of its plan in [`PLANS`].
    pub(super) fn subscription(
        &mut self,
        id: u64,
        subscriber: u64,
        started: usize,
        ended: Option<usize>,
    ) -> rusqlite::Result<usize> {
        let plan = *self.random.pick(&[0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 5]);
        self.subscription.execute(params![
            id as i64,
            subscriber as i64,
            plan as i64 + 1,
            self.days[started],
            ended.map(|day| self.days[day].as_str()),
            if ended.is_some() { "cancelled" } else { "active" },
            PLANS[plan].3,
        ])?;
        Ok(plan)
    }

    /// A payment of what the plan costs. How somebody pays follows from the subscription.
    pub(super) fn payment(
        &mut self,
        id: u64,
        subscription: u64,
        plan: usize,
        day: usize,
    ) -> rusqlite::Result<()> {
        let by = Random::new(subscription).next();
        let (method, mandate, account) = match by % 10 {
            0..=6 => (
                "prélèvement",
                Some(format!("GDO-{subscription:08}")),
                Some(format!("{:04}", by / 10 % 10_000)),
            ),
            7..=8 => ("carte", None, Some(format!("{:04}", by / 10 % 10_000))),
            _ => ("chèque", None, None),
        };
        self.payment.execute(params![
            id as i64,
            subscription as i64,
            self.days[day],
            PLANS[plan].3,
            method,
            mandate,
            account
        ])?;
        Ok(())
    }

    /// The days of the latest payments of a subscription: (day, subscription, plan).
    pub(super) fn past_payments(
        &mut self,
        subscription: u64,
        plan: usize,
        started: usize,
        out: &mut Vec<(usize, u64, usize)>,
    ) {
        let period = PLANS[plan].4 as usize * 365 / 12;
        let latest = TODAY - self.random.below(period as u64) as usize;
        for n in 0..KEPT_PAYMENTS as usize {
            match latest.checked_sub(n * period) {
                Some(day) if day >= started => out.push((day, subscription, plan)),
                _ => break,
            }
        }
    }

    /// Delivery stopped for some days of the year, past or ahead.
    pub(super) fn suspension(&mut self, id: u64, subscription: u64) -> rusqlite::Result<()> {
        let first = TODAY - 300 + self.random.below(400) as usize;
        let last = first + self.random.between(4, 30) as usize;
        let reason =
            self.random.pick(&["vacances", "vacances", "vacances", "hospitalisation", "déménagement"]);
        self.suspension.execute(params![
            id as i64,
            subscription as i64,
            self.days[first],
            self.days[last],
            reason
        ])?;
        Ok(())
    }
}

/// The days from 1 January 2000 to some months after [`TODAY`], as ISO dates.
fn days() -> Vec<String> {
    let first = jiff::civil::Date::constant(2000, 1, 1);
    std::iter::successors(Some(first), |day| day.tomorrow().ok())
        .take(TODAY + 200)
        .map(|day| day.to_string())
        .collect()
}

/// A name as it stands in an e-mail address: small letters without accents, spaces and apostrophes.
fn plain(name: &str) -> String {
    name.to_lowercase()
        .chars()
        .filter_map(|c| match c {
            'à' | 'â' => Some('a'),
            'ç' => Some('c'),
            'é' | 'è' | 'ê' | 'ë' => Some('e'),
            'î' | 'ï' => Some('i'),
            'ô' => Some('o'),
            'ù' | 'û' | 'ü' => Some('u'),
            ' ' | '\'' => None,
            other => Some(other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_set_in_november_2026() {
        assert_eq!(days()[TODAY], "2026-11-21");
    }

    #[test]
    fn addresses_of_e_mail_are_plain() {
        for name in WOMEN.iter().chain(&MEN).chain(&FAMILIES) {
            let plain = plain(name);
            assert!(plain.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{plain}");
        }
    }
}
