-- wrk: POST the push body BODY, each time with another record id, and print what was seen as one line of JSON.
-- The id's last nine digits, "000000000" in the file, stand at a multiple of three bytes in the message's data: in
-- base64 every three digits are four letters of their own, so a body is put together without encoding it again.
local file = assert(io.open(os.getenv("BODY"), "rb"))
local body = file:read("*a")
file:close()
local place = "MDAwMDAwMDAw" -- base64 of nine zeros
local from, to = body:find(place, 1, true)
local head, tail = body:sub(1, from - 1), body:sub(to + 1)

local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function encoded(three)
  local a, b, c = three:byte(1, 3)
  local bits = a * 65536 + b * 256 + c
  local four = ""
  for shift = 18, 0, -6 do
    local index = math.floor(bits / 2 ^ shift) % 64 + 1
    four = four .. letters:sub(index, index)
  end
  return four
end
local groups = {}
for number = 0, 999 do groups[number] = encoded(string.format("%03d", number)) end

local number = tonumber(os.getenv("FIRST"))
local headers = { ["Content-Type"] = "application/json" }

function request()
  local n = number
  number = n + 1
  local id = groups[math.floor(n / 1000000) % 1000] .. groups[math.floor(n / 1000) % 1000] .. groups[n % 1000]
  return wrk.format("POST", nil, headers, head .. id .. tail)
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '\n{"requests": %d, "microseconds": %d, "status": %d, "broken": %d, "p50": %d, "p99": %d}',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
