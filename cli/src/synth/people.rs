//! Who is in the log, and what each of them does next.

use std::io;

use super::agenda::Agenda;
use super::chance::Chance;

/// Seconds between two pages: most follow within a minute, a few take an hour or two. Points of
/// the quantile function, in 4096ths.
const THINKING: [(u32, u32); 13] = [
    (0, 1),
    (512, 4),
    (1024, 9),
    (1536, 16),
    (2048, 28),
    (2560, 48),
    (3072, 75),
    (3600, 120),
    (3860, 300),
    (4000, 700),
    (4060, 1500),
    (4084, 3300),
    (4096, 7200),
];
/// Things that a page loads along with itself.
const ASSETS: [u32; 8] = [0, 0, 0, 0, 1, 1, 2, 4];
/// Seconds between two questions of a poller.
const PERIODS: [u64; 4] = [60, 60, 30, 300];

/// One line of the log, before it is spelt out.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) who: Who,
    pub(crate) what: What,
}

#[derive(Clone, Copy)]
pub(crate) enum Who {
    Person { number: u32, at_home: bool },
    Poller { number: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The login page, which is read before anyone is known.
    LoginPage,
    Login,
    Page,
    /// Something that a page loads.
    Asset,
    Poll,
}

/// Everyone; the people have the first numbers, the pollers those after them.
pub(crate) struct Crowd {
    people: Vec<Person>,
    pollers: u32,
    first_weekday: u32,
}

struct Person {
    agenda: Agenda,
    /// The day's first page is the login.
    logged_in: bool,
}

impl Crowd {
    /// The crowd, and when everyone in it acts first.
    pub(crate) fn new(users: u32, pollers: u32, first_weekday: u32, chance: &mut Chance) -> (Crowd, Vec<u64>) {
        let come = |_| Person { agenda: Agenda::from(0, first_weekday, chance), logged_in: false };
        let people: Vec<Person> = (0..users).map(come).collect();
        let mut first: Vec<u64> = people.iter().map(|person| person.agenda.begin()).collect();
        first.extend((0..pollers).map(|number| u64::from(chance.below(period(number) as u32))));
        (Crowd { people, pollers, first_weekday }, first)
    }

    /// Lets `who` act at `time`; the answer is when they act next.
    pub(crate) fn act(
        &mut self,
        who: u32,
        time: u64,
        chance: &mut Chance,
        mut write: impl FnMut(Step, &mut Chance) -> io::Result<()>,
    ) -> io::Result<u64> {
        let Some(person) = self.people.get_mut(who as usize) else {
            let number = who - self.people.len() as u32;
            debug_assert!(number < self.pollers);
            write(Step { who: Who::Poller { number }, what: What::Poll }, chance)?;
            return Ok(time + period(number));
        };
        let who = Who::Person { number: who, at_home: person.agenda.is_at_home(time) };
        let assets = chance.of(&ASSETS);
        let mut write = |what| write(Step { who, what }, chance);
        if !person.logged_in {
            person.logged_in = true;
            write(What::LoginPage)?;
            write(What::Login)?;
        }
        write(What::Page)?;
        for _ in 0..assets {
            write(What::Asset)?;
        }
        let next = time + u64::from(chance.quantile(&THINKING));
        Ok(person.agenda.there_from(next).unwrap_or_else(|| {
            person.agenda = Agenda::from(person.agenda.day() + 1, self.first_weekday, chance);
            person.logged_in = false;
            person.agenda.begin()
        }))
    }
}

fn period(poller: u32) -> u64 {
    PERIODS[poller as usize % PERIODS.len()]
}
