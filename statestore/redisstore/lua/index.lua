-- KEYS 4..: the lists. ARGV: token. Answers the field names of each list, in one string.
local h, why = open()
if not h then return {why} end
if not has(h, ARGV[1]) then return {'refused', head(h)} end
local answer = {'ok', head(h)}
for k = 4, #KEYS do answer[#answer + 1] = table.concat(call('HKEYS', KEYS[k])) end
return answer
