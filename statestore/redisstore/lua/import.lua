-- KEYS 4..: the lists written. ARGV: applied, max time, last record at, base cut, top cut, stage id, staged, groups.
local h, why = open()
if h then
  unstage(ARGV[6])
  return {'exists', head(h)}
end
if why ~= 'noslot' then
  unstage(ARGV[6])
  return {why}
end
local all, miss = groups(8, ARGV[6], ARGV[7])
if not all then return {miss} end

-- What is left of a slot that a script tore goes. The mark is the first write on purpose: a server that is full refuses it, and
-- nothing has changed; state that can be read from the log again is no reason to fill it further.
call('HSET', M, 'mark', 'w')
wipe()
for _, g in ipairs(all) do g.old = nil end
put(all)
if ARGV[6] ~= '' then call('UNLINK', R) end
h = {v = '01', applied = ARGV[1], maxts = ARGV[2], at = ARGV[3], base = ARGV[4], top = ARGV[5]}
save(h)
return {'ok', head(h)}
