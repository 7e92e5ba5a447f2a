-- ARGV: token, watermark, base token, base offset, seen.
local h, why = open()
if not h then return {why} end
if not has(h, ARGV[3]) or has(h, ARGV[1]) or lt(h.applied, ARGV[4]) or lt(h.applied, ARGV[5]) or lt(ARGV[2], fence(h.top)) then
  return {'refused', head(h)}
end
if token(h.base) ~= ARGV[3] then h.base = h.top end
through()
h.top = ARGV[1] .. h.applied .. ARGV[2]
call('HSET', M, 'base', h.base, 'top', h.top)
return {'ok', head(h)}
