//! What is known of commands: <https://redis.io/docs/latest/commands/>.

/// The commands of Redis 7 and 8, as `COMMAND LIST` has them, sorted.
const KNOWN: &[&str] = &[
    "ACL",
    "APPEND",
    "ASKING",
    "AUTH",
    "BGREWRITEAOF",
    "BGSAVE",
    "BITCOUNT",
    "BITFIELD",
    "BITFIELD_RO",
    "BITOP",
    "BITPOS",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "COPY",
    "DBSIZE",
    "DEBUG",
    "DECR",
    "DECRBY",
    "DEL",
    "DISCARD",
    "DUMP",
    "ECHO",
    "EVAL",
    "EVALSHA",
    "EVALSHA_RO",
    "EVAL_RO",
    "EXEC",
    "EXISTS",
    "EXPIRE",
    "EXPIREAT",
    "EXPIRETIME",
    "FAILOVER",
    "FCALL",
    "FCALL_RO",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION",
    "GEOADD",
    "GEODIST",
    "GEOHASH",
    "GEOPOS",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEORADIUSBYMEMBER_RO",
    "GEORADIUS_RO",
    "GEOSEARCH",
    "GEOSEARCHSTORE",
    "GET",
    "GETBIT",
    "GETDEL",
    "GETEX",
    "GETRANGE",
    "GETSET",
    "HDEL",
    "HELLO",
    "HEXISTS",
    "HEXPIRE",
    "HEXPIREAT",
    "HEXPIRETIME",
    "HGET",
    "HGETALL",
    "HGETDEL",
    "HGETEX",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HMSET",
    "HPERSIST",
    "HPEXPIRE",
    "HPEXPIREAT",
    "HPEXPIRETIME",
    "HPTTL",
    "HRANDFIELD",
    "HSCAN",
    "HSET",
    "HSETEX",
    "HSETNX",
    "HSTRLEN",
    "HTTL",
    "HVALS",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "INFO",
    "KEYS",
    "LASTSAVE",
    "LATENCY",
    "LCS",
    "LINDEX",
    "LINSERT",
    "LLEN",
    "LMOVE",
    "LMPOP",
    "LOLWUT",
    "LPOP",
    "LPOS",
    "LPUSH",
    "LPUSHX",
    "LRANGE",
    "LREM",
    "LSET",
    "LTRIM",
    "MEMORY",
    "MGET",
    "MIGRATE",
    "MODULE",
    "MONITOR",
    "MOVE",
    "MSET",
    "MSETNX",
    "MULTI",
    "OBJECT",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PEXPIRETIME",
    "PFADD",
    "PFCOUNT",
    "PFDEBUG",
    "PFMERGE",
    "PFSELFTEST",
    "PING",
    "PSETEX",
    "PSUBSCRIBE",
    "PSYNC",
    "PTTL",
    "PUBLISH",
    "PUBSUB",
    "PUNSUBSCRIBE",
    "QUIT",
    "RANDOMKEY",
    "READONLY",
    "READWRITE",
    "RENAME",
    "RENAMENX",
    "REPLCONF",
    "REPLICAOF",
    "RESET",
    "RESTORE",
    "RESTORE-ASKING",
    "ROLE",
    "RPOP",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SAVE",
    "SCAN",
    "SCARD",
    "SCRIPT",
    "SDIFF",
    "SDIFFSTORE",
    "SELECT",
    "SENTINEL",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SHUTDOWN",
    "SINTER",
    "SINTERCARD",
    "SINTERSTORE",
    "SISMEMBER",
    "SLAVEOF",
    "SLOWLOG",
    "SMEMBERS",
    "SMISMEMBER",
    "SMOVE",
    "SORT",
    "SORT_RO",
    "SPOP",
    "SPUBLISH",
    "SRANDMEMBER",
    "SREM",
    "SSCAN",
    "SSUBSCRIBE",
    "STRLEN",
    "SUBSCRIBE",
    "SUBSTR",
    "SUNION",
    "SUNIONSTORE",
    "SUNSUBSCRIBE",
    "SWAPDB",
    "SYNC",
    "TIME",
    "TOUCH",
    "TTL",
    "TYPE",
    "UNLINK",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
    "WATCH",
    "XACK",
    "XADD",
    "XAUTOCLAIM",
    "XCLAIM",
    "XDEL",
    "XGROUP",
    "XINFO",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREAD",
    "XREADGROUP",
    "XREVRANGE",
    "XSETID",
    "XTRIM",
    "ZADD",
    "ZCARD",
    "ZCOUNT",
    "ZDIFF",
    "ZDIFFSTORE",
    "ZINCRBY",
    "ZINTER",
    "ZINTERCARD",
    "ZINTERSTORE",
    "ZLEXCOUNT",
    "ZMPOP",
    "ZMSCORE",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZRANDMEMBER",
    "ZRANGE",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZRANGESTORE",
    "ZRANK",
    "ZREM",
    "ZREMRANGEBYLEX",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
    "ZREVRANGE",
    "ZREVRANGEBYLEX",
    "ZREVRANGEBYSCORE",
    "ZREVRANK",
    "ZSCAN",
    "ZSCORE",
    "ZUNION",
    "ZUNIONSTORE",
];

/// Commands whose first argument is a subcommand, which is part of the command's name.
const CONTAINERS: &[&str] = &[
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT",
    "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO",
];

/// Longer than any name of a command or subcommand.
pub(super) const MAX_NAME: usize = 32;

/// Whether `name`, in capitals, is a command of Redis itself.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.binary_search(&name).is_ok()
}

/// Whether `name`, in capitals, is formed as the commands of modules are: letters, a dot, a word.
pub(super) fn is_of_module(name: &str) -> bool {
    let letters = |word: &str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase());
    name.split_once('.')
        .is_some_and(|(module, command)| letters(module) && letters(command))
}

/// Whether `name`, in capitals, is followed by a subcommand.
pub(super) fn is_container(name: &str) -> bool {
    CONTAINERS.contains(&name)
}

/// Whether a command of the list begins with `word`, in whatever case.
pub(super) fn begins_known(word: &[u8]) -> bool {
    let begins = |known: &&str| {
        let begin = known.as_bytes().get(..word.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    KNOWN.iter().any(begins)
}

/// Writes `word` to `name` in capitals, if it can be the name of a command.
pub(super) fn push_name(name: &mut String, word: &[u8]) -> bool {
    let fits = (1..=MAX_NAME).contains(&word.len())
        && word[0].is_ascii_alphabetic()
        && word
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
    if fits {
        name.extend(word.iter().map(|b| char::from(b.to_ascii_uppercase())));
    }
    fits
}

/// Which kind of subscription a command or confirmation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Channel = 0,
    Pattern = 1,
    Shard = 2,
}

/// What a command does to the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Plain,
    Multi,
    Exec,
    Discard,
    /// With the database, where it could be read.
    Select(Option<u32>),
    Subscribe(Topic),
    Unsubscribe(Topic),
    Monitor,
    Reset,
    /// SYNC or PSYNC: the connection becomes a replica's.
    Sync,
    ReplyOn,
    ReplyOff,
    ReplySkip,
}

/// The kind of the command `name`, in capitals.
pub(super) fn kind(name: &str) -> Kind {
    match name {
        "MULTI" => Kind::Multi,
        "EXEC" => Kind::Exec,
        "DISCARD" => Kind::Discard,
        "SELECT" => Kind::Select(None),
        "SUBSCRIBE" => Kind::Subscribe(Topic::Channel),
        "PSUBSCRIBE" => Kind::Subscribe(Topic::Pattern),
        "SSUBSCRIBE" => Kind::Subscribe(Topic::Shard),
        "UNSUBSCRIBE" => Kind::Unsubscribe(Topic::Channel),
        "PUNSUBSCRIBE" => Kind::Unsubscribe(Topic::Pattern),
        "SUNSUBSCRIBE" => Kind::Unsubscribe(Topic::Shard),
        "MONITOR" => Kind::Monitor,
        "RESET" => Kind::Reset,
        "SYNC" | "PSYNC" => Kind::Sync,
        _ => Kind::Plain,
    }
}

/// How the reply to a read tells whether what was asked for is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Cache {
    /// It does not, or the command is no read.
    #[default]
    None,
    /// Null is a miss.
    Null,
    /// Each null of the array is a miss, all else a hit.
    Nulls,
    /// The integer is the number of hits among the arguments.
    Count,
    /// The integer is 1 for a hit and 0 for a miss.
    Flag,
    /// An empty aggregate is a miss: a key that holds nothing does not exist.
    Empty,
}

/// Which commands read from a cache. Left out are those whose reply does not tell (GETRANGE, STRLEN, LRANGE, SCAN).
pub(super) fn cache(name: &str) -> Cache {
    match name {
        "GET" | "GETEX" | "GETDEL" | "HGET" | "LINDEX" | "ZSCORE" | "DUMP" | "JSON.GET" => Cache::Null,
        "MGET" | "HMGET" | "ZMSCORE" | "JSON.MGET" => Cache::Nulls,
        "EXISTS" | "TOUCH" => Cache::Count,
        "HEXISTS" | "SISMEMBER" => Cache::Flag,
        "HGETALL" | "SMEMBERS" | "HKEYS" | "HVALS" => Cache::Empty,
        _ => Cache::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(KNOWN.is_sorted());
        assert!(CONTAINERS.iter().all(|name| is_known(name)));
    }

    #[test]
    fn names() {
        let mut name = String::new();
        assert!(push_name(&mut name, b"ft.Search"));
        assert_eq!(name, "FT.SEARCH");
        for bad in [&b""[..], b"a b", b"1a", b"\xff", &[b'a'; 33]] {
            assert!(!push_name(&mut name, bad));
        }
    }
}
