-- KEYS 4..: the lists of refused offsets. ARGV: token, offset, watermark, replay from, max time, now, no adopt ('1'), stage id,
-- staged, groups.
local h, why = open()
if why == 'version' or why == 'damaged' then
  unstage(ARGV[8])
  return {why}
end
if h and has(h, ARGV[1]) then
  unstage(ARGV[8])
  return {'present', head(h)}
end
local both = ARGV[1] .. ARGV[2] .. ARGV[3]
if h and ARGV[7] ~= '1' and not lt(ARGV[2], h.applied) and not lt(ARGV[3], fence(h.top)) then
  unstage(ARGV[8])
  through()
  h.base, h.top = both, both
  call('HSET', M, 'base', both, 'top', both)
  return {'adopted', head(h)}
end
local outcome = (h or call('EXISTS', M) == 1) and 'wiped' or 'created'
local all, miss = groups(10, ARGV[8], ARGV[9])
if not all then return {miss} end

wipe()
for _, g in ipairs(all) do g.old = nil end
put(all)
call('UNLINK', R)
h = {v = '01', applied = ARGV[4], maxts = ARGV[5], at = ARGV[6], base = both, top = both}
save(h)
return {outcome, head(h)}
