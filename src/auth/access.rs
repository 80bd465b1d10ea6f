//! What one caller may do.
//!
//! The first rule that matches a topic says who may: anyone, whoever has a token that grants it, or
//! nobody but applications. The same questions are asked of every event on every path, so that a
//! wildcard never shows more than the grant behind it.

use std::sync::Arc;

use super::{Caller, Policy, Proof};
use crate::config::{ApiKey, Lack, Owner, Rule, Rules, Storage, Who};
use crate::model::{Code, Envelope, Member, NewEvent, Pattern, Problem, Topic};

/// How much of a pattern a caller may receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All that it matches.
    Whole,
    /// Some of it: each event has to be looked at.
    Part,
    /// Nothing.
    None,
}

/// One caller's rights.
#[derive(Debug, Clone)]
pub struct Access {
    policy: Arc<Policy>,
    caller: Caller,
    /// The id of the WebSocket session whose rights they are; none for what comes another way.
    session: Option<Arc<str>>,
    /// What the caller's token grants, where it names its user or session.
    filled: Option<Arc<Filled>>,
}

/// Grants of a token in which names stand for what is the caller's own.
#[derive(Debug)]
struct Filled {
    subscribe: Vec<Pattern>,
    publish: Vec<Pattern>,
}

impl Access {
    /// The rights of `caller` under a policy.
    pub(super) fn new(policy: Arc<Policy>, caller: Caller) -> Self {
        Self::of(policy, caller, None)
    }

    fn of(policy: Arc<Policy>, caller: Caller, session: Option<Arc<str>>) -> Self {
        let access = Self { policy, caller, session, filled: None };
        let Caller::User(user) = &access.caller else { return access };
        if !user.subscribe.iter().chain(&user.publish).any(Owner::is_named_in) {
            return access;
        }
        let owner = access.owner();
        let fill = |patterns: &[Pattern]| patterns.iter().filter_map(|of| owner.fill(of)).collect();
        let filled = Filled { subscribe: fill(&user.subscribe), publish: fill(&user.publish) };
        Self { filled: Some(Arc::new(filled)), ..access }
    }

    /// The same caller's rights as the WebSocket session of this id, which its own topics are known by.
    pub fn of_session(self, id: Arc<str>) -> Self {
        Self::of(self.policy, self.caller, Some(id))
    }

    /// The rights of another caller in the same session, if these are rights of one.
    pub fn of_caller(&self, caller: Caller) -> Self {
        Self::of(self.policy.clone(), caller, self.session.clone())
    }

    /// The same rights under another policy.
    pub(super) fn under(&self, policy: Arc<Policy>, caller: Caller) -> Self {
        Self::of(policy, caller, self.session.clone())
    }

    /// By which names topics are the caller's own. Who shows no credential owns nothing.
    fn owner(&self) -> Owner<'_> {
        let session = self.session.as_deref();
        match &self.caller {
            Caller::Anonymous => Owner::default(),
            Caller::Application(_) | Caller::Key(_) => Owner { sub: None, session },
            Caller::User(user) => Owner { sub: Some(&user.bearer.user), session },
        }
    }

    /// What the caller's token lets it receive.
    fn granted_subscribe(&self) -> &[Pattern] {
        match (&self.filled, &self.caller) {
            (Some(filled), _) => &filled.subscribe,
            (None, Caller::User(user)) => &user.subscribe,
            (None, _) => &[],
        }
    }

    /// What the caller's token lets it publish to.
    fn granted_publish(&self) -> &[Pattern] {
        match (&self.filled, &self.caller) {
            (Some(filled), _) => &filled.publish,
            (None, Caller::User(user)) => &user.publish,
            (None, _) => &[],
        }
    }

    /// Whether these are rights under this very policy.
    pub(super) fn is_of(&self, policy: &Arc<Policy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// Whether both are rights under the same policy.
    pub(super) fn has_policy_of(&self, other: &Self) -> bool {
        self.is_of(&other.policy)
    }

    /// Whose rights these are.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the caller is known by.
    pub fn proof(&self) -> Proof {
        match &self.caller {
            Caller::Application(proof) => *proof,
            Caller::Key(key) => Proof::of_api_key(&key.hash),
            Caller::User(user) => user.proof,
            Caller::Anonymous => Proof::default(),
        }
    }

    /// The rules of topics.
    pub fn rules(&self) -> &Rules {
        &self.policy.rules
    }

    /// Whether the caller may receive events of `topic`.
    pub fn may_subscribe(&self, topic: &Topic) -> bool {
        self.may(topic, |key| &key.subscribe, |rule| rule.subscribe, Self::granted_subscribe)
    }

    /// Whether the caller may publish to `topic`. The broker's own topics are nobody's to publish.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        !topic.is_reserved()
            && self.may(topic, |key| &key.publish, |rule| rule.publish, Self::granted_publish)
    }

    /// Refuses who may subscribe to nothing, whatever it is: those without a credential, where no rule opens
    /// anything to anyone.
    pub fn require_some_subscription(&self) -> Result<(), Problem> {
        let may = match &self.caller {
            Caller::Anonymous => self.policy.rules.all().any(|rule| rule.subscribe == Who::Anyone),
            Caller::Application(_) | Caller::Key(_) | Caller::User(_) => true,
        };
        match may {
            true => Ok(()),
            false => Err(self.refusal("no right to subscribe to any topic")),
        }
    }

    /// Whether there may be a topic that the caller may subscribe to. Never false where there is one.
    fn may_subscribe_somewhere(&self) -> bool {
        self.may_somewhere(|key| &key.subscribe, |rule| rule.subscribe, Self::granted_subscribe)
    }

    /// Whether there may be a topic that the caller may publish to: what is asked before a body is read
    /// that says the topics. Never false where there is one.
    pub fn may_publish_somewhere(&self) -> bool {
        self.may_somewhere(|key| &key.publish, |rule| rule.publish, Self::granted_publish)
    }

    fn may_somewhere(
        &self,
        scope: fn(&ApiKey) -> &[Pattern],
        who: fn(&Rule) -> Who,
        granted: fn(&Self) -> &[Pattern],
    ) -> bool {
        let rules = &self.policy.rules;
        let mut all = rules.all();
        match &self.caller {
            Caller::Application(_) => true,
            Caller::Key(key) if !scope(key).is_empty() => true,
            Caller::User(_) if !granted(self).is_empty() => true,
            Caller::Key(_) | Caller::User(_) | Caller::Anonymous => {
                all.any(|rule| match who(rule) {
                    Who::Anyone => true,
                    Who::Own => self.owned(rule).is_some(),
                    Who::Token | Who::Nobody => false,
                })
            }
        }
    }

    fn may(
        &self,
        topic: &Topic,
        scope: fn(&ApiKey) -> &[Pattern],
        who: fn(&Rule) -> Who,
        granted: fn(&Self) -> &[Pattern],
    ) -> bool {
        let among = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        let rule = self.policy.rules.of(topic);
        let owns = || rule.own.as_ref().is_some_and(|own| own.is_of(topic, self.owner()));
        match (&self.caller, who(rule)) {
            (Caller::Application(_), _) | (_, Who::Anyone) => true,
            (Caller::Key(key), Who::Own) => among(scope(key)) || owns(),
            (Caller::Key(key), _) => among(scope(key)),
            (Caller::User(_), Who::Token) => among(granted(self)),
            (Caller::User(_), Who::Own) => among(granted(self)) || owns(),
            (Caller::User(_), Who::Nobody) | (Caller::Anonymous, _) => false,
        }
    }

    /// The topics of a rule that are the caller's own, if any can be.
    fn owned(&self, rule: &Rule) -> Option<Pattern> {
        rule.own.as_ref().and_then(|own| own.of(self.owner()))
    }

    /// How much of `pattern` the caller may receive. `Part` may turn out to be nothing.
    pub fn coverage(&self, pattern: &Pattern) -> Coverage {
        if let Some(topic) = pattern.as_topic() {
            return if self.may_subscribe(&topic) { Coverage::Whole } else { Coverage::None };
        }
        if let Caller::Application(_) = &self.caller {
            return Coverage::Whole;
        }
        let rules = || {
            let listed = self.policy.rules.listed.iter();
            listed.filter(|rule| rule.pattern.overlaps(pattern))
        };
        let ruled = |who| rules().any(|rule| rule.subscribe == who);
        let among = |patterns: &[Pattern], test: fn(&Pattern, &Pattern) -> bool| {
            patterns.iter().any(|of| test(of, pattern))
        };
        let granted = |test| among(self.granted_subscribe(), test);
        // No rule takes anything away from a key.
        let scoped = |test| match &self.caller {
            Caller::Key(key) => among(&key.subscribe, test),
            _ => false,
        };
        let own = |rule: &Rule| match rule.subscribe {
            Who::Own => self.owned(rule),
            Who::Anyone | Who::Token | Who::Nobody => None,
        };
        // What the first rule gives, no later one takes away.
        let owned = rules().next().and_then(own).is_some_and(|own| own.covers(pattern));
        if owned || scoped(Pattern::covers) || (granted(Pattern::covers) && !ruled(Who::Nobody)) {
            Coverage::Whole
        } else if granted(Pattern::overlaps)
            || scoped(Pattern::overlaps)
            || ruled(Who::Anyone)
            || rules().filter_map(own).any(|own| own.overlaps(pattern))
        {
            Coverage::Part
        } else {
            Coverage::None
        }
    }

    /// Patterns within `pattern` that together match each topic that the caller may receive: what is to be read for
    /// it. They may match others too, for a rule may take some away.
    pub fn within(&self, pattern: &Pattern) -> Vec<Pattern> {
        match self.coverage(pattern) {
            Coverage::Whole => return vec![pattern.clone()],
            Coverage::None => return Vec::new(),
            Coverage::Part => {}
        }
        let granted = match &self.caller {
            Caller::Key(key) => &key.subscribe[..],
            Caller::User(_) => self.granted_subscribe(),
            Caller::Application(_) | Caller::Anonymous => &[],
        };
        let ruled = self.policy.rules.listed.iter().filter_map(|rule| match rule.subscribe {
            Who::Anyone => Some(rule.pattern.clone()),
            Who::Own => self.owned(rule),
            Who::Token | Who::Nobody => None,
        });
        let all = granted.iter().cloned().chain(ruled);
        let mut within: Vec<_> = all.filter_map(|of| of.intersection(pattern)).collect();
        within.sort_unstable();
        within.dedup();
        within
    }

    /// Whether the caller is nobody in particular, and rules open all of `pattern` to anyone: what it is shown of it
    /// may be shown to all.
    pub fn is_anyones(&self, pattern: &Pattern) -> bool {
        let is_anyone = self.policy.open || matches!(self.caller, Caller::Anonymous);
        is_anyone && self.policy.rules.open_whole(pattern)
    }

    /// Refuses callers that may neither subscribe nor publish to any topic, whatever it is.
    pub fn require_some_right(&self) -> Result<(), Problem> {
        match self.may_subscribe_somewhere() || self.may_publish_somewhere() {
            true => Ok(()),
            false => Err(self.refusal("no right to subscribe or to publish to any topic")),
        }
    }

    /// Refuses callers that may not do what is for operators.
    pub fn require_admin(&self) -> Result<(), Problem> {
        match &self.caller {
            Caller::Application(_) => Ok(()),
            Caller::Key(key) if key.admin => Ok(()),
            Caller::Key(_) => Err(self.refusal("this needs an API key with admin = true")),
            Caller::User(_) | Caller::Anonymous if !self.policy.has_operators() => {
                Err(self.refusal("this is off until there is an API key with admin rights"))
            }
            Caller::User(_) | Caller::Anonymous => Err(self.refusal("this needs an API key")),
        }
    }

    /// Refuses callers that may not have the events of `topic` forgotten. Nobody may where the broker
    /// keeps what it has to know: a revocation that is forgotten makes its tokens good again.
    pub fn require_forget(&self, topic: &Topic) -> Result<(), Problem> {
        self.require_admin()?;
        match topic.is_state() {
            true => {
                let detail =
                    format!("{topic} is what the broker has to know, and is not forgotten");
                Err(Problem::new(Code::Forbidden, detail))
            }
            false => Ok(()),
        }
    }

    /// Refuses callers that may not receive events of `topic`.
    pub fn require_subscribe(&self, topic: &Topic) -> Result<(), Problem> {
        match self.may_subscribe(topic) {
            true => Ok(()),
            false => Err(self.want_of_subscribe(&Pattern::from(topic))),
        }
    }

    /// Refuses callers that may receive nothing of what `pattern` matches.
    pub fn require_some_of(&self, pattern: &Pattern) -> Result<(), Problem> {
        match self.coverage(pattern) {
            Coverage::Whole | Coverage::Part => Ok(()),
            Coverage::None => Err(self.want_of_subscribe(pattern)),
        }
    }

    /// Refuses callers that may not publish to `topic`.
    pub fn require_publish(&self, topic: &Topic) -> Result<(), Problem> {
        if topic.is_reserved() {
            return Err(Problem::new(
                Code::Forbidden,
                format!("{topic} is the broker's own topic"),
            ));
        }
        match self.may_publish(topic) {
            true => Ok(()),
            false => {
                let topic = Pattern::from(topic);
                Err(self.want_of_right("publish to", &topic, |rule| rule.publish))
            }
        }
    }

    /// Refuses what of an event the caller may not say, or its topic can't have, and says who sent it where a client
    /// publishes: `session` is the one over which the event came.
    pub fn sign(&self, event: &mut NewEvent, session: Option<&str>) -> Result<(), Problem> {
        let is_client = matches!(self.caller, Caller::User(_) | Caller::Anonymous);
        // Where nobody has a credential, whoever comes over a WebSocket has all rights, and is a client all the same.
        let is_signed = is_client || self.policy.open && session.is_some();
        if !is_signed && event.envelope.is_none() && event.terms.is_none() {
            return Ok(());
        }
        let rule = self.policy.rules.of(&event.topic);
        if let Some(envelope) = &event.envelope {
            if envelope.sender().is_some() && !matches!(self.caller, Caller::Application(_)) {
                let detail = "`from` is said by the broker; an API key with full rights may say it for others";
                return Err(self.refusal(detail));
            }
            if envelope.except().is_some_and(|except| is_client && Some(except) != session) {
                let detail = "a client may keep an event from its own session alone (`except`)";
                return Err(self.refusal(detail));
            }
        }
        if let Some(envelope) =
            event.envelope.as_mut().filter(|envelope| envelope.holder().is_some())
        {
            let Some(session) = session else {
                let detail = "`bound` is of WebSocket clients: there is no session here that the value could end with";
                return Err(Problem::new(Code::InvalidEvent, detail));
            };
            envelope.bind(session);
        }
        if rule.storage == Storage::None
            && let Some(member) = event.kept_member()
        {
            let detail =
                format!("`{member}` is of events that are kept, and {} keeps none", event.topic);
            return Err(Problem::new(Code::InvalidEvent, detail));
        }
        let user = match &self.caller {
            Caller::User(user) => Some(user.bearer.user.as_str()),
            Caller::Application(_) | Caller::Key(_) | Caller::Anonymous => None,
        };
        if !rule.from {
            event.envelope = event.envelope.take().and_then(|envelope| envelope.without_sender());
        }
        let is_said = event.envelope.as_ref().is_some_and(|envelope| envelope.sender().is_some());
        if is_signed && !is_said && rule.from && (user.is_some() || session.is_some()) {
            let envelope = event.envelope.get_or_insert_default();
            user.into_iter().for_each(|user| envelope.push(Member::User(user)));
            session.into_iter().for_each(|session| envelope.push(Member::Session(session)));
        }
        let bytes = event.envelope.as_ref().map_or(0, |envelope| envelope.bytes().len());
        if bytes > Envelope::MAX_BYTES {
            let most = Envelope::MAX_BYTES;
            let detail =
                format!("what the event carries has {bytes} bytes, and the limit is {most}");
            return Err(Problem::new(Code::InvalidEvent, detail));
        }
        Ok(())
    }

    /// Refuses callers that may not publish to any topic, whatever it is.
    pub fn require_publish_somewhere(&self) -> Result<(), Problem> {
        match self.may_publish_somewhere() {
            true => Ok(()),
            false => Err(self.refusal("no right to publish to any topic")),
        }
    }

    /// Refuses callers that have published too much lately to publish so many events more.
    pub fn require_rate(&self, events: usize) -> Result<(), Problem> {
        if self.policy.may_publish_more(&self.caller, events) {
            return Ok(());
        }
        let detail = "this credential publishes more than auth.publishes_per_second allows";
        Err(Problem::new(Code::TooMany, detail))
    }

    /// Refuses callers that may not give these rights to others.
    pub fn require_grant(&self, subscribe: &[Pattern], publish: &[Pattern]) -> Result<(), Problem> {
        let beyond = |scope: &[Pattern], given: &[Pattern]| {
            let covered = |given: &Pattern| scope.iter().any(|of| of.covers(given));
            given.iter().find(|given| !covered(given)).cloned()
        };
        let beyond = match &self.caller {
            Caller::Application(_) => return Ok(()),
            Caller::Key(key) => {
                beyond(&key.subscribe, subscribe).or_else(|| beyond(&key.publish, publish))
            }
            Caller::User(_) | Caller::Anonymous => {
                return Err(self.refusal("giving rights to others needs an API key"));
            }
        };
        match beyond {
            None => Ok(()),
            Some(pattern) => Err(self.refusal(format!("the API key has no right to {pattern}"))),
        }
    }

    fn want_of_subscribe(&self, pattern: &Pattern) -> Problem {
        self.want_of_right("subscribe to", pattern, |rule| rule.subscribe)
    }

    /// A refusal for want of a right, which says so where a rule would give it to a token with another `sub`.
    fn want_of_right(&self, to: &str, pattern: &Pattern, who: fn(&Rule) -> Who) -> Problem {
        let mut rules = self.policy.rules.listed.iter();
        let rule = rules.find(|rule| rule.pattern.overlaps(pattern));
        let own = rule.filter(|rule| who(rule) == Who::Own).and_then(|rule| rule.own.as_ref());
        let why = match (&self.caller, own.and_then(|own| own.lacks(self.owner()))) {
            (Caller::User(_), Some(Lack::Sub)) => {
                ": the token's `sub` is not one plain segment of a topic, so it owns none of {sub}"
            }
            (Caller::User(_) | Caller::Key(_), Some(Lack::Session)) => {
                ": topics of {session} are a WebSocket session's own, and this is none"
            }
            _ => "",
        };
        let gives = match &self.caller {
            Caller::Anonymous => {
                "; a credential may (`Authorization: Bearer`), or a rule of [[topics]]"
            }
            Caller::User(_) => {
                "; the claim `fanfare` of a token may give it, or a rule of [[topics]]"
            }
            Caller::Key(_) => "; its entry of [[auth.keys]] would have to give it",
            Caller::Application(_) => "",
        };
        self.refusal(format!("no right to {to} {pattern}{why}{gives}"))
    }

    /// A refusal for want of rights: of a better credential, or of any.
    pub fn refusal(&self, detail: impl Into<String>) -> Problem {
        let code = match self.caller {
            Caller::Anonymous => Code::Unauthorized,
            Caller::Application(_) | Caller::Key(_) | Caller::User(_) => Code::Forbidden,
        };
        Problem::new(code, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;
    use crate::config::{Config, KeyHash};
    use crate::model::Bearer;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    fn rules() -> Rules {
        let mut rules = Config::default().rules;
        let rule = |text, subscribe| Rule {
            pattern: pattern(text),
            subscribe,
            publish: subscribe,
            ..rules.default.clone()
        };
        rules.listed = vec![
            rule("a.secret.>", Who::Nobody),
            rule("a.public.*", Who::Anyone),
            rule("b.>", Who::Token),
        ];
        rules
    }

    fn access(caller: Caller) -> Access {
        let config = crate::config::Auth {
            api_keys: vec![KeyHash([0; 32])],
            ..crate::config::Auth::default()
        };
        Access::new(Arc::new(Policy::new(&config, rules(), Vec::new(), None)), caller)
    }

    fn bearer() -> Bearer {
        Bearer { user: "u".to_owned(), token: "t".to_owned(), issued: None, info: None }
    }

    fn user(grants: &[&str]) -> Access {
        let grants: Vec<_> = grants.iter().map(|text| pattern(text)).collect();
        let (subscribe, publish) = (grants.clone(), grants);
        let expires = SystemTime::UNIX_EPOCH;
        let bearer = bearer();
        access(Caller::User(Box::new(User {
            bearer,
            proof: Proof::default(),
            expires,
            subscribe,
            publish,
        })))
    }

    #[test]
    fn the_first_matching_rule_and_the_grant_decide() {
        for (who, access, allowed) in [
            (
                "application",
                access(Caller::Application(Proof::default())),
                [true, true, true, true],
            ),
            ("anonymous", access(Caller::Anonymous), [false, true, false, false]),
            ("user of a", user(&["a.>"]), [false, true, false, false]),
            ("user of b and c", user(&["b.*", "c"]), [false, true, true, true]),
        ] {
            let topics = ["a.secret.x", "a.public.x", "b.x", "c"].map(|t| Topic::parse(t).unwrap());
            assert_eq!(
                topics.each_ref().map(|topic| access.may_subscribe(topic)),
                allowed,
                "{who}"
            );
            assert_eq!(topics.each_ref().map(|topic| access.may_publish(topic)), allowed, "{who}");
        }
    }

    #[test]
    fn the_brokers_own_topics_are_nobodys_to_publish() {
        let topic = Topic::parse("$sys.x").unwrap();
        let problem =
            access(Caller::Application(Proof::default())).require_publish(&topic).unwrap_err();
        assert_eq!(problem.code, Code::Forbidden);
    }

    #[test]
    fn what_the_broker_has_to_know_is_nobodys_to_forget() {
        let access = access(Caller::Application(Proof::default()));
        for (topic, is_allowed) in [
            ("$sys.revoked", false),
            ("$sys.webhooks.a", false),
            ("$sys.topics", true),
            ("a", true),
        ] {
            let allowed = access.require_forget(&Topic::parse(topic).unwrap());
            assert_eq!(allowed.is_ok(), is_allowed, "{topic}");
        }
    }

    #[test]
    fn who_may_publish_nowhere_is_known_without_a_topic() {
        let somewhere = |access: Access| access.may_publish_somewhere();
        // `a.public.*` is open to anyone.
        assert!(somewhere(access(Caller::Anonymous)));
        let config = |topics: &str| {
            let sets = vec!["auth.api_keys=sixteen-bytes-key".to_owned(), topics.to_owned()];
            let sources = crate::config::Sources { sets, ..Default::default() };
            let config = crate::config::load(&sources).unwrap();
            Arc::new(Policy::new(&config.auth, config.rules, Vec::new(), None))
        };
        let user = |name: &str, publish: &[&str]| {
            Caller::User(Box::new(User {
                bearer: Bearer { user: name.to_owned(), ..bearer() },
                proof: Proof::default(),
                expires: SystemTime::UNIX_EPOCH,
                subscribe: Vec::new(),
                publish: publish.iter().map(|text| pattern(text)).collect(),
            }))
        };
        let own = config("topics=[{match = \"users.{sub}.>\", publish = \"own\"}]");
        let heard = config("topics=[{match = \"users.{sub}.>\"}]");
        let none = config("topics=[]");
        for (policy, caller, expected) in [
            (&none, Caller::Application(Proof::default()), true),
            (&none, Caller::Anonymous, false),
            (&none, user("ada", &[]), false),
            (&none, user("ada", &["a"]), true),
            (&own, Caller::Anonymous, false),
            (&own, user("ada", &[]), true),
            (&own, user("a.b", &[]), false),
            (&heard, user("ada", &[]), false),
        ] {
            let access = Access::new(policy.clone(), caller);
            assert_eq!(access.may_publish_somewhere(), expected, "{:?}", access.caller());
        }
    }

    #[test]
    fn a_topic_of_ones_own_is_to_listen_to_and_to_publish_to_only_where_its_rule_says_so() {
        let (mine, others) =
            (Topic::parse("users.u.x").unwrap(), Topic::parse("users.v.x").unwrap());
        for (keys, grants, may_subscribe, may_publish) in [
            ("", &[][..], true, false),
            (", publish = \"own\"", &[], true, true),
            (", publish = \"token\"", &[], true, false),
            (", subscribe = \"token\", publish = \"own\"", &[], false, true),
            (", subscribe = \"nobody\", publish = \"nobody\"", &["users.>"], false, false),
            ("", &["users.u.*"], true, true),
        ] {
            let topics = format!("topics=[{{match = \"users.{{sub}}.>\"{keys}}}]");
            let sets = vec!["auth.api_keys=sixteen-bytes-key".to_owned(), topics];
            let sources = crate::config::Sources { sets, ..Default::default() };
            let config = crate::config::load(&sources).unwrap();
            let policy = Arc::new(Policy::new(&config.auth, config.rules, Vec::new(), None));
            let access = Access::new(policy, user(grants).caller().clone());
            assert_eq!(access.may_subscribe(&mine), may_subscribe, "{keys}");
            assert_eq!(access.may_publish(&mine), may_publish, "{keys}");
            let is_told = |problem: Problem| problem.code == Code::Forbidden;
            assert!(may_publish || access.require_publish(&mine).is_err_and(is_told), "{keys}");
            if grants.is_empty() {
                let asked = access.coverage(&pattern("users.u.>"));
                assert_eq!(asked != Coverage::None, may_subscribe, "{keys}");
                assert!(!access.may_subscribe(&others) && !access.may_publish(&others), "{keys}");
            }
        }
    }

    #[test]
    fn what_is_a_sessions_own_is_that_sessions_alone_and_nobodys_without_a_credential() {
        let sets = vec![
            "auth.api_keys=sixteen-bytes-key".to_owned(),
            "topics=[{match = \"cursors.*.{session}\", subscribe = \"anyone\", publish = \"own\"}, \
             {match = \"mine.{sub}.{session}\", publish = \"own\"}]"
                .to_owned(),
        ];
        let sources = crate::config::Sources { sets, ..Default::default() };
        let config = crate::config::load(&sources).unwrap();
        let policy = Arc::new(Policy::new(&config.auth, config.rules, Vec::new(), None));
        let caller = || user(&["seats.{session}", "inbox.{sub}.>"]).caller().clone();
        let access = |caller| Access::new(policy.clone(), caller);
        let topic = |text: &str| Topic::parse(text).unwrap();
        let own = ["cursors.room.s1", "mine.u.s1", "seats.s1"];
        let others = [
            "cursors.room.s2",
            "mine.u.s2",
            "mine.v.s1",
            "seats.s2",
            "seats.{session}",
            "cursors.room.{session}",
            "inbox.v.a",
            "inbox.{sub}.a",
        ];
        let session = access(caller()).of_session("s1".into());
        let renewed = session.of_caller(caller());
        let again = session.under(policy.clone(), caller());
        for access in [&session, &renewed, &again] {
            assert!(own.iter().all(|text| access.may_publish(&topic(text))));
            assert!(access.may_publish(&topic("inbox.u.a")));
            assert!(!others.iter().any(|text| access.may_publish(&topic(text))));
            assert!(access.may_subscribe(&topic("mine.u.s1")));
            assert_eq!(access.coverage(&pattern("mine.u.*")), Coverage::Part);
        }
        let over_http = access(caller());
        let anonymous = access(Caller::Anonymous).of_session("s1".into());
        for access in [&over_http, &anonymous] {
            assert!(!own.iter().chain(&others).any(|text| access.may_publish(&topic(text))));
        }
        assert!(over_http.may_publish(&topic("inbox.u.a")));
        let refused = over_http.require_publish(&topic("cursors.room.s1")).unwrap_err();
        assert!(refused.detail.contains("{session}"), "{refused}");
        assert!(anonymous.of_caller(caller()).may_publish(&topic("cursors.room.s1")));
    }

    #[test]
    fn a_sub_that_can_own_nothing_is_named_where_a_rule_would_give_the_right() {
        let sets = vec![
            "auth.api_keys=sixteen-bytes-key".to_owned(),
            "topics=[{match = \"users.{sub}.>\", publish = \"own\"}]".to_owned(),
        ];
        let sources = crate::config::Sources { sets, ..Default::default() };
        let config = crate::config::load(&sources).unwrap();
        let policy = Arc::new(Policy::new(&config.auth, config.rules, Vec::new(), None));
        let refusals = |name: &str, of: &str| {
            let Caller::User(mut user) = user(&[]).caller().clone() else { panic!("no user") };
            user.bearer.user = name.to_owned();
            let access = Access::new(policy.clone(), Caller::User(user));
            let (topic, pattern) = (Topic::parse(of).unwrap(), pattern(of));
            [
                access.require_subscribe(&topic).unwrap_err(),
                access.require_some_of(&pattern).unwrap_err(),
                access.require_publish(&topic).unwrap_err(),
            ]
        };
        for (name, of, is_named) in [
            ("ada@a.example", "users.ada.x", true),
            ("", "users.ada.x", true),
            ("bob", "users.ada.x", false),
            ("ada@a.example", "other", false),
        ] {
            for problem in refusals(name, of) {
                assert_eq!(problem.code, Code::Forbidden);
                assert_eq!(problem.detail.contains("`sub`"), is_named, "{name} {problem}");
                assert!(name.is_empty() || !problem.detail.contains(name), "{problem}");
            }
        }
    }

    #[test]
    fn want_of_a_credential_is_told_apart_from_want_of_a_right() {
        let topic = Topic::parse("c").unwrap();
        let code = |access: Access| access.require_subscribe(&topic).unwrap_err().code;
        assert_eq!(code(access(Caller::Anonymous)), Code::Unauthorized);
        assert_eq!(code(user(&["d"])), Code::Forbidden);
    }

    #[test]
    fn what_anyone_may_have_is_known_by_the_rules_alone() {
        let anyone = access(Caller::Anonymous);
        for (text, is_anyones) in [
            ("a.public.x", true),
            ("a.public.*", true),
            ("a.public.>", false),
            ("a.*.x", false),
            ("a.secret.x", false),
            ("b.x", false),
            ("c", false),
            (">", false),
            ("$sys.x", false),
        ] {
            assert_eq!(anyone.is_anyones(&pattern(text)), is_anyones, "{text}");
        }
        let public = pattern("a.public.*");
        assert!(!user(&["a.public.*"]).is_anyones(&public), "somebody in particular");
        let barred =
            Rule { pattern: pattern("a.public.x"), subscribe: Who::Token, ..rules().default };
        let config = crate::config::Auth::default();
        let under = |listed: Vec<Rule>| {
            let policy = Policy::new(&config, Rules { listed, ..rules() }, Vec::new(), None);
            Access::new(Arc::new(policy), Caller::Application(Proof::default()))
        };
        assert!(under(rules().listed).is_anyones(&public), "where no credential is configured");
        let listed = [vec![barred], rules().listed].concat();
        assert!(!under(listed).is_anyones(&public), "an earlier rule takes some away");
    }

    #[test]
    fn a_pattern_is_covered_whole_in_part_or_not_at_all() {
        for (access, text, coverage) in [
            (access(Caller::Application(Proof::default())), ">", Coverage::Whole),
            (access(Caller::Anonymous), ">", Coverage::Part),
            (access(Caller::Anonymous), "b.>", Coverage::None),
            (user(&["b.>"]), "b.*", Coverage::Whole),
            (user(&["b.x"]), "b.*", Coverage::Part),
            (user(&["a.>"]), "a.>", Coverage::Part),
            (user(&["c"]), "d.*", Coverage::None),
        ] {
            assert_eq!(access.coverage(&pattern(text)), coverage, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_belongs_to_users_is_shown_to_each_alone(
            asked in "(u|[*])[.](u|v|[*])([.](x|y|[*]|>))?|>",
            topic in "(u|t)[.](u|v|x)([.](x|y))?",
            grant in "u[.]v[.]x|t[.]>|none",
            barred in any::<bool>(),
        ) {
            let topics = format!(
                "topics=[{}{{match = \"u.{{sub}}.>\"}}]",
                if barred { "{match = \"u.*.y\", subscribe = \"nobody\"}, " } else { "" },
            );
            let sets = vec!["auth.api_keys=sixteen-bytes-key".to_owned(), topics];
            let sources = crate::config::Sources { sets, ..Default::default() };
            let config = crate::config::load(&sources).unwrap();
            let policy = Arc::new(Policy::new(&config.auth, config.rules, Vec::new(), None));
            let (expires, granted) = (SystemTime::UNIX_EPOCH, vec![pattern(&grant)]);
            let user = User {
                bearer: bearer(), proof: Proof::default(), expires, subscribe: granted.clone(), publish: granted.clone(),
            };
            let access = Access::new(policy, Caller::User(Box::new(user)));
            let (asked, topic) = (pattern(&asked), Topic::parse(&topic).unwrap());
            let is_barred = barred && pattern("u.*.y").matches(&topic);
            let is_own = pattern("u.u.>").matches(&topic);
            let expected = !is_barred && (is_own || granted[0].matches(&topic));
            prop_assert_eq!(access.may_subscribe(&topic), expected);
            let is_within = access.within(&asked).iter().any(|within| within.matches(&topic));
            prop_assert!(!is_within || asked.matches(&topic));
            if asked.matches(&topic) {
                prop_assert!(is_within || !expected);
                match access.coverage(&asked) {
                    Coverage::Whole => prop_assert!(expected),
                    Coverage::None => prop_assert!(!expected),
                    Coverage::Part => {}
                }
            }
        }

        #[test]
        fn whole_hides_nothing_and_none_shows_nothing(
            grants in prop::collection::vec("[abc]|[*]", 1..4),
            asked in "(a|b|[*])[.](secret|public|[*])([.][*x])?",
            topic in "(a|b|c)[.](secret|public|x)([.]x)?",
        ) {
            let access = user(&[&grants.join("."), "a.>"]);
            let (asked, topic) = (pattern(&asked), Topic::parse(&topic).unwrap());
            if asked.matches(&topic) {
                let within = access.within(&asked);
                let is_within = within.iter().any(|within| within.matches(&topic));
                prop_assert!(is_within || !access.may_subscribe(&topic), "{within:?}");
                match access.coverage(&asked) {
                    Coverage::Whole => prop_assert!(access.may_subscribe(&topic)),
                    Coverage::None => prop_assert!(!access.may_subscribe(&topic)),
                    Coverage::Part => {}
                }
            }
        }
    }
}
