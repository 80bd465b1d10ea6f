-- Numbers, stores and tells a group of publishes, each of them whole or not at all.
--
-- KEYS: 14 and on, the streams of the topics, then the receipts of the idempotency keys.
-- ARGV: 8 the window of a key in milliseconds, 9 what of it is left where there are too many, 10 how many keys there may
-- be, 11 the most bytes of all topics, 12 and 13 how many values may stay, and the most bytes of them, 14 how many values may
-- be bound to one session, 15 the form of the entries, 16 how many topics, 17 how many publishes; then for each topic its name, most events, most bytes, whether it is kept, whether
-- its newest event stays and how many events of it come; then for each publish how many events, with a `t` behind
-- it where some have terms, which key (0 for none), whether it is one of a series, the digest of how it came and that of its
-- events (each may be empty), and for each of its events the topic, with its terms behind it, and the entry.

-- About how large a message may become, and how large an entry that travels with it whatever its topic.
local MESSAGE_BYTES, ENTRY_BYTES = 262144, 16384

-- How many newer events of its topic one that is to be fetched has to survive: nodes need time for it.
local FETCHABLE = 128

local log = enter()
local window, least_window, max_keys = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local max_bytes, max_stays = tonumber(ARGV[11]), { count = tonumber(ARGV[12]), bytes = tonumber(ARGV[13]) }
local max_bound = tonumber(ARGV[14])
local topic_count, publish_count = tonumber(ARGV[16]), tonumber(ARGV[17])
local now = tick(log)

log.form = math.max(log.form, tonumber(ARGV[15]))

local at = 18
local topics = {}
for n = 1, topic_count do
  topics[n] = {
    stream = KEYS[OWN_KEYS + n], name = ARGV[at], max_events = tonumber(ARGV[at + 1]),
    max_bytes = tonumber(ARGV[at + 2]), is_kept = ARGV[at + 3] == '1',
    indexed = ARGV[at + 4] == '1' and STAYING or LEAVING, coming = tonumber(ARGV[at + 5]), came = 0,
  }
  at = at + 6
end

local message = { previous = log.seq, count = 0, bytes = 0, parts = {} }

local function flush()
  local body = table.concat(message.parts)
  if body ~= '' then tell(log, message.previous, message.count, body) end
  message = { previous = log.seq, count = 0, bytes = 0, parts = {} }
end

-- Whether an event will be there when nodes come to fetch it, as far as the bounds of its topic go.
local function is_fetchable(topic, entry)
  local newer = topic.coming + FETCHABLE
  return topic.is_kept and newer < topic.max_events and newer * #entry < topic.max_bytes
end

-- Puts an event into the message: whole, or by its place alone where it is large and can be fetched, or
-- where it would be a message of its own.
local function mention(topic, entry, is_kept)
  topic.coming = topic.coming - 1
  local is_left_out = is_kept and #entry > ENTRY_BYTES
    and (#entry > MESSAGE_BYTES or is_fetchable(topic, entry))
  local flags = (is_kept and 1 or 0) + (is_left_out and 2 or 0)
  local body = is_left_out and '' or entry
  local part = struct.pack('>BBI4', flags, #topic.name, #body) .. topic.name .. body
  message.parts[#message.parts + 1] = part
  message.count = message.count + 1
  message.bytes = message.bytes + #part
end

-- Lists the value of a topic as bound to a holder. One that has left is to be looked at again then.
local function bind(name, holder)
  redis.call('ZADD', BOUND, 0, holder .. ' ' .. name)
  if redis.call('ZREM', LEFT, holder .. GONE) == 1 then
    redis.call('ZADD', LEFT, whole(now - log.ends_later), holder)
  end
end

-- Notes what an entry with an envelope carries that is looked for later: a version, and when it ends, or with whom. The time
-- of that goes by a clock without the leaps of the server's; the number and the envelope are kept.
local function note_members(name, entry)
  if member_of(entry, VERSION_MEMBER) then redis.call('HSET', VERSIONS, name, whole(log.seq)) end
  if log.ends_upto > 0 then forget_end(name) end
  local ttl, holder = member_of(entry, TTL_MEMBER), member_of(entry, HOLDER_MEMBER)
  if not (ttl or holder) then return end
  redis.call('HSET', ENDINGS, name, whole(log.seq) .. ' ' .. envelope_of(entry))
  log.ends_upto = log.seq
  if ttl then
    local at = log.time + struct.unpack('>I8', ttl) - log.ends_later
    redis.call('ZADD', ENDS, whole(at), name)
  end
  if holder then bind(name, holder) end
end

local function keep(topic, entry)
  log.seq = log.seq + 1
  local id, time, cost = whole(log.seq) .. '-0', whole(log.time), cost_of(topic.name, entry)
  redis.call('XADD', topic.stream, id, 'e', entry, 't', time)
  redis.call('XADD', ORDER, id, topic.indexed, topic.name, 't', time)
  topic.came = topic.came + 1
  topic.bytes = redis.call('HINCRBY', BYTES, topic.name, cost)
  if topic.bytes == cost then redis.call('ZADD', TOPICS, 0, topic.name) end
  log.bytes = log.bytes + cost
  topic.standing = nil
  if string.byte(entry) % 4 >= 2 then
    note_members(topic.name, entry)
  elseif log.ends_upto > 0 then
    forget_end(topic.name)
  end
end

-- A receipt is the digest of how the request came (zeros where there is none), the result, and the digest of the
-- events where it has one. Earlier releases write and look at the first two alone.
local DIGEST_BYTES, NO_DIGEST = 32, string.rep('\0', 32)
local OF_EVENTS = ' 2:'

-- Keys that were forgotten before their window was over, and for how long the last of them was remembered.
local early, remembered = 0, 0

-- Whether there is room for one more key. The oldest go for it, as far as they may: a receipt says when it was given,
-- whatever the window was then. Where fewer are allowed than before, the rest goes with what comes next.
local function has_room()
  while redis.call('ZCARD', RECEIPTS) >= max_keys and early < FORGOTTEN_KEYS do
    local receipt = redis.call('ZRANGE', RECEIPTS, 0, 0)[1]
    if not receipt then return false end
    local result = redis.call('GET', receipt)
    local given = result and tonumber(string.match(result, '^%d+ %d+ (%d+)', DIGEST_BYTES + 1))
    if given and now - given < least_window then return false end
    redis.call('DEL', receipt)
    redis.call('ZREM', RECEIPTS, receipt)
    early, remembered = early + 1, given and now - given or remembered
  end
  return true
end

-- Whether what is asked is what a receipt tells: by the events where it says so, else by how it came.
local function is_same(found, raw, events)
  local known = string.match(found, OF_EVENTS .. '(%x+)$', DIGEST_BYTES + 1)
  if known then return known == events end
  return raw ~= '' and string.sub(found, 1, DIGEST_BYTES) == raw
end

-- What is known of a key: nothing where it is new. In a series one comes after the other, so a lower one was
-- there before, and a higher one takes the place of the last.
local function known(receipt, raw, events, is_in_series)
  local found = redis.call('GET', receipt)
  if found and (is_same(found, raw, events) or is_in_series and string.sub(found, 1, DIGEST_BYTES) > raw) then
    return { 'same', string.sub(found, DIGEST_BYTES + 1) }
  end
  if is_in_series then return nil end
  if found then return { 'other' } end
  forget_keys(now)
  if not has_room() then return { 'full' } end
end

local function remember(receipt, raw, events, result)
  local digest = events ~= '' and OF_EVENTS .. events or ''
  redis.call('SET', receipt, (raw ~= '' and raw or NO_DIGEST) .. result .. digest, 'PX', window)
  redis.call('ZADD', RECEIPTS, whole(now + window), receipt)
end

-- Whether an entry would be bound to a session that holds as many values as it may.
local function is_one_too_many(topic, entry)
  local holder = member_of(entry, HOLDER_MEMBER)
  if not holder or redis.call('ZMSCORE', BOUND, holder .. ' ' .. topic.name)[1] then return false end
  local from, upto = listed_of(holder)
  return redis.call('ZRANGEBYLEX', BOUND, from, upto, 'LIMIT', max_bound - 1, 1)[1] ~= nil
end

-- Binds what a repeat of a publish binds to the session that repeats it, as far as it stands there still; whether it may.
local function bind_again(count, result)
  local first, kept = string.match(result, '^%d+ (%d+) %d+ (%w+)')
  local number = tonumber(first)
  for n = 1, count do
    local topic = topics[tonumber(string.match(ARGV[at + 2 * n - 2], '^%d+'))]
    local entry = ARGV[at + 2 * n - 1]
    local is_kept = string.sub(kept, n, n) == '1'
    local holder = is_kept and member_of(entry, HOLDER_MEMBER)
    local bound, envelope = ending_of(topic.name)
    if holder and bound == number then
      if is_one_too_many(topic, entry) then return false end
      redis.call('ZREM', BOUND, (holder_in(envelope) or '') .. ' ' .. topic.name)
      redis.call('HSET', ENDINGS, topic.name, whole(number) .. ' ' .. envelope_of(entry))
      bind(topic.name, holder)
    end
    if is_kept then number = number + 1 end
  end
  return true
end

-- The version of an entry, where it carries one.
local function version_of(entry)
  local number = member_of(entry, VERSION_MEMBER)
  if not number then return nil end
  return { number = struct.unpack('>I8', number), epoch = member_of(entry, EPOCH_MEMBER) }
end

-- How a topic stands before what comes: the newest number that it ever had, its newest event, whether that is a current
-- value, and its newest version.
local function standing_of(topic)
  if topic.standing then return topic.standing end
  local newest = redis.call('XREVRANGE', topic.stream, '+', '-', 'COUNT', 1)[1]
  local number = newest and tonumber(string.match(newest[1], '%d+'))
  local lost = tonumber(redis.call('ZMSCORE', LOST, topic.name)[1] or 0)
  local versioned = redis.call('HGET', VERSIONS, topic.name)
  local found = versioned and redis.call('XRANGE', topic.stream, versioned, versioned)[1]
  topic.standing = {
    last = number or lost, newest = number,
    has_value = newest and not member_of(newest[2][2], REMOVED_MEMBER),
    version = found and version_of(found[2][2]),
  }
  return topic.standing
end

-- What events are stored under stands behind their topic: `p` it is passed on and not kept; `u` and a number, nothing of
-- the topic may have come after that; `a` no current value is there, `c` one is, `i` and a place, the newest is that one.
-- Whether they are met: true, or false, or that it is superseded, and by which version.
local function judge(topic, terms, entry)
  local standing = standing_of(topic)
  local after = string.match(terms, ';u(%d+)')
  if after and standing.last > tonumber(after) then return 'superseded', 0 end
  local version, kept = version_of(entry), standing.version
  -- What ends a value carries its version.
  if after then return true, version or kept end
  if version and kept and version.epoch == kept.epoch and version.number <= kept.number then
    return 'superseded', kept.number
  end
  if string.find(terms, ';a', 1, true) and standing.has_value then return false end
  if string.find(terms, ';c', 1, true) and not standing.has_value then return false end
  local name, place = string.match(terms, ';i(%w+)-(%d+)')
  if name and (name ~= log.name or standing.newest ~= tonumber(place)) then return false end
  return true, version or kept
end

-- Looks at all events of a publish, each as if those before it were stored: which are superseded and by what, or why none is
-- to be stored: the index of one that can't be, or that one is too many for its session.
local function judge_all(count)
  local before, superseded = {}, {}
  local last = log.seq
  local refused
  for n = 1, count do
    local place, terms = string.match(ARGV[at + 2 * n - 2], '^(%d+)(.*)')
    local topic, entry = topics[tonumber(place)], ARGV[at + 2 * n - 1]
    if topic.is_kept and not string.find(terms, ';p', 1, true) then
      if not before[topic] then before[topic] = { standing_of(topic) } end
      if is_one_too_many(topic, entry) then
        refused = { 'bound' }
        break
      end
      local verdict, version = judge(topic, terms, entry)
      if verdict == 'superseded' then
        superseded[n] = version
      elseif verdict then
        last = last + 1
        topic.standing = {
          last = last, newest = last, has_value = not member_of(entry, REMOVED_MEMBER), version = version,
        }
      else
        refused = { 'unmet', whole(n - 1) }
        break
      end
    end
  end
  for topic, standing in pairs(before) do topic.standing = standing[1] end
  return superseded, refused
end

local added = 0

local function publish(count, superseded)
  local first, kept, versions = log.seq + 1, {}, {}
  for n = 1, count do
    local topic, entry = topics[tonumber(ARGV[at])], ARGV[at + 1]
    local is_kept = topic and topic.is_kept
    if not topic then
      local place, terms = string.match(ARGV[at], '^(%d+)(.*)')
      topic = topics[tonumber(place)]
      is_kept = topic.is_kept and not string.find(terms, ';p', 1, true)
    end
    at = at + 2
    if superseded and superseded[n] then
      kept[n] = 's'
      versions[#versions + 1] = whole(superseded[n])
    else
      if is_kept then
        keep(topic, entry)
        added = added + 1
      end
      kept[n] = is_kept and '1' or '0'
      mention(topic, entry, is_kept)
      if message.bytes > MESSAGE_BYTES then flush() end
    end
  end
  local result = string.format('%.0f %.0f %.0f %s', log.epoch, first, log.time, table.concat(kept))
  if #versions == 0 then return result end
  return result .. ' ' .. table.concat(versions, ',')
end

local results = {}
for n = 1, publish_count do
  local count, key = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local has_terms = not count
  if has_terms then count = tonumber(string.match(ARGV[at], '%d+')) end
  local is_in_series, raw, events = ARGV[at + 2] == '1', ARGV[at + 3], ARGV[at + 4]
  at = at + 5
  local receipt = key > 0 and KEYS[OWN_KEYS + topic_count + key]
  local result = receipt and known(receipt, raw, events, is_in_series)
  local superseded
  if not result and has_terms then
    superseded, result = judge_all(count)
  elseif result and has_terms and result[1] == 'same' and not bind_again(count, result[2]) then
    result = { 'bound' }
  end
  if result then
    at = at + 2 * count
  else
    result = { 'new', publish(count, superseded) }
    if receipt then remember(receipt, raw, events, result[2]) end
  end
  results[n] = result
end

-- One event of a topic is kept however large it is, and the newest of all.
local left = REMOVED + added
for _, topic in ipairs(topics) do
  local count = topic.bytes and redis.call('XLEN', topic.stream) or 0
  while left > 0 and count > 1 and (count > topic.max_events or topic.bytes > topic.max_bytes) do
    local surplus = math.min(math.max(1, count - topic.max_events), count - 1, left, REMOVED)
    local removed, cost = remove(log, topic.name, topic.stream, surplus, '-', '+')
    if removed == 0 then break end
    left, count, topic.bytes = left - removed, count - removed, topic.bytes - cost
  end
  -- What stays is all that its topic has, until something comes.
  if log.stays_upto > 0 and topic.came > 0 and count == topic.came + 1 then
    local removed, cost = remove_replaced(log, topic.name, topic.stream)
    count, topic.bytes = count - removed, topic.bytes - cost
  end
end

trim(log, max_bytes, max_stays, left)
message.parts[#message.parts + 1] = removals(log)
flush()
save(log)
return { values_of(log), results, early, remembered }
