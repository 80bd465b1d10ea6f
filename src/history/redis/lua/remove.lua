-- Removes events of some topics, at most so many together.
--
-- KEYS: 14 and on, the streams of the topics.
-- ARGV: 8 how many events at most; then for each topic its name, from and up to which number, and whether its newest
-- event stays (`1`), or all is forgotten (`f`), also that a value ends by itself.

local log = enter()
local left, removed = tonumber(ARGV[8]), 0
for n = 1, #KEYS - OWN_KEYS do
  if left > 0 then
    local name, from, upto, keep_newest = unpack(ARGV, 5 + 4 * n, 8 + 4 * n)
    local count = remove(log, name, KEYS[OWN_KEYS + n], left, from, upto, keep_newest == '1')
    left, removed = left - count, removed + count
    if keep_newest == 'f' then forget_end(name) end
  end
end
tell_removed(log)
save(log)
return { values_of(log), removed }
