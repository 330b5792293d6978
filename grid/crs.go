package grid

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CRS is a coordinate reference system as far as its text tells which one it
// is. Two texts name the same system when their authority ids are the same; the
// parameters inside are not weighed against each other, since a datum or a
// shift left out makes metres of difference. It is a value and comparable.
//
// The axis order that an authority defines does not matter: x is east and y is
// north here, so OGC:CRS84 and EPSG:4326 are one system.
type CRS struct {
	// text is the text without surrounding space.
	text string
	// id is AUTHORITY:CODE in capitals, aliases resolved; empty if none is
	// known.
	id string
	// name is what the definition calls itself, if it does.
	name       string
	geographic bool
}

// maxCRSBytes is the longest text that is looked into, as in the contract.
const maxCRSBytes = 65536

// aliases are other ids and names of the same system, once the axis order is
// settled as x east, y north. Names are those of OGC, GDAL and PROJ.
var aliases = map[string]string{
	"CRS84": "EPSG:4326", "OGC:CRS84": "EPSG:4326", "CRS:84": "EPSG:4326", "WGS84": "EPSG:4326",
	"CRS83": "EPSG:4269", "OGC:CRS83": "EPSG:4269", "CRS:83": "EPSG:4269", "NAD83": "EPSG:4269",
	"CRS27": "EPSG:4267", "OGC:CRS27": "EPSG:4267", "CRS:27": "EPSG:4267", "NAD27": "EPSG:4267",
	"EPSG:900913": "EPSG:3857", "EPSG:102100": "EPSG:3857", "ESRI:102100": "EPSG:3857",
}

// ParseCRS looks for the authority id of a system in its text: a code
// ("EPSG:4326", a URN, an OGC address), WKT 1 or 2, PROJJSON, or the PROJ
// string of WGS 84 and its UTM zones. Of nested systems only the outermost
// counts. A text without an id, malformed, or of a bound system (which carries
// a transformation of its own) has none, and is the same only as itself.
func ParseCRS(text string) CRS {
	text = strings.TrimSpace(text)
	c := CRS{text: text}
	if text == "" || len(text) > maxCRSBytes {
		return c
	}
	switch {
	case text[0] == '{':
		c = c.fromPROJJSON()
	case text[0] == '+':
		c.id = idOfPROJ(text)
	case strings.ContainsAny(text, "[("):
		c = c.fromWKT()
	default:
		c.id = idOfCode(text)
	}
	if alias, ok := aliases[c.id]; ok {
		c.id = alias
	}
	if code, ok := strings.CutPrefix(c.id, "EPSG:"); ok {
		// The registry is the better witness of what a code is.
		c.geographic = isGeographicEPSG(code)
	}
	return c
}

// SameCRS reports whether two texts name the same system. known is false when
// the texts do not tell; same is then false.
func SameCRS(a, b string) (same, known bool) { return ParseCRS(a).Same(ParseCRS(b)) }

// IsGeographic reports whether a text names a system of longitude and latitude
// in degrees.
func IsGeographic(crs string) bool { return ParseCRS(crs).Geographic() }

// Same reports whether two systems are the same. known is false when their
// texts do not tell; same is then false. Equal texts are the same system, and
// so are two empty ones: a catalog that names no system anywhere means one.
func (c CRS) Same(o CRS) (same, known bool) {
	switch {
	case c.text == o.text:
		return true, true
	case c.id == "" || o.id == "":
		return false, false
	case c.id == o.id:
		return true, true
	default:
		// Codes of one authority name different systems; of two authorities
		// they may name the same.
		return false, authorityOf(c.id) == authorityOf(o.id)
	}
}

// Geographic reports whether x is longitude and y is latitude in degrees.
func (c CRS) Geographic() bool { return c.geographic }

// ID is the authority id, such as EPSG:4326; empty if the text has none.
func (c CRS) ID() string { return c.id }

// Text is the text the system was read from, without surrounding space.
func (c CRS) Text() string { return c.text }

// String tells the system to people, in one short line.
func (c CRS) String() string {
	switch {
	case c.text == "":
		return "no CRS"
	case c.id != "":
		return c.id
	case c.name != "":
		return strconv.Quote(abridge(c.name, 80)) + " (no authority id: " + abridge(oneLine(c.text), 120) + ")"
	default:
		return strconv.Quote(abridge(oneLine(c.text), 120))
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// abridge cuts a text to at most about limit bytes, between characters.
func abridge(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}

func authorityOf(id string) string {
	authority, _, _ := strings.Cut(id, ":")
	return authority
}

// makeID joins an authority and a code; empty if either is missing or is not a
// plain word.
func makeID(authority, code string) string {
	if !isWord(authority) || !isWord(code) {
		return ""
	}
	if n, err := strconv.ParseUint(code, 10, 64); err == nil {
		code = strconv.FormatUint(n, 10) // EPSG:04326
	}
	return strings.ToUpper(authority) + ":" + strings.ToUpper(code)
}

func isWord(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-' && r != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// idOfCode reads AUTHORITY:CODE, urn:ogc:def:crs:AUTHORITY:version:CODE,
// http://www.opengis.net/def/crs/AUTHORITY/version/CODE and plain names that
// are aliases.
func idOfCode(text string) string {
	lower := strings.ToLower(text)
	for _, prefix := range []string{"http://www.opengis.net/def/crs/", "https://www.opengis.net/def/crs/"} {
		if strings.HasPrefix(lower, prefix) {
			if p := strings.Split(text[len(prefix):], "/"); len(p) == 3 {
				return makeID(p[0], p[2])
			}
			return ""
		}
	}
	p := strings.Split(text, ":")
	switch {
	case len(p) == 7 && strings.EqualFold(strings.Join(p[:4], ":"), "urn:ogc:def:crs"):
		return makeID(p[4], p[6])
	case len(p) == 7 && strings.EqualFold(strings.Join(p[:4], ":"), "urn:x-ogc:def:crs"):
		return makeID(p[4], p[6])
	case len(p) == 2:
		return makeID(p[0], p[1])
	case len(p) == 1:
		return aliases[strings.ToUpper(text)]
	default:
		return ""
	}
}

// idOfPROJ reads the PROJ strings that define one well-known system completely.
func idOfPROJ(text string) string {
	fields := strings.Fields(text)
	if len(fields) == 1 {
		if code, ok := strings.CutPrefix(strings.ToLower(text), "+init=epsg:"); ok {
			return makeID("EPSG", code)
		}
	}
	// What these say is the default or said already.
	fields = slices.DeleteFunc(fields, func(f string) bool {
		return slices.Contains([]string{"+no_defs", "+type=crs", "+ellps=WGS84", "+units=m", "+wktext"}, f)
	})
	slices.Sort(fields)
	switch {
	case slices.Equal(fields, []string{"+datum=WGS84", "+proj=longlat"}),
		slices.Equal(fields, []string{"+datum=WGS84", "+proj=latlong"}):
		return "EPSG:4326"
	case len(fields) >= 3 && fields[0] == "+datum=WGS84" && fields[1] == "+proj=utm":
		zone := strings.TrimPrefix(fields[len(fields)-1], "+zone=")
		n, err := strconv.Atoi(zone)
		if err != nil || n < 1 || n > 60 {
			return ""
		}
		switch {
		case len(fields) == 3:
			return "EPSG:" + strconv.Itoa(32600+n)
		case len(fields) == 4 && fields[2] == "+south":
			return "EPSG:" + strconv.Itoa(32700+n)
		}
	}
	return ""
}

// projjson is the part of PROJJSON that tells which system it is.
type projjson struct {
	Type string   `json:"type"`
	Name string   `json:"name"`
	ID   *projID  `json:"id"`
	IDs  []projID `json:"ids"`
	CS   struct {
		Axis []projAxis `json:"axis"`
	} `json:"coordinate_system"`
}

type projID struct {
	Authority string          `json:"authority"`
	Code      json.RawMessage `json:"code"` // a number or a string
}

type projAxis struct {
	Unit json.RawMessage `json:"unit"` // a name, or an object for rarer units
}

// fromPROJJSON is c with what the outermost system says of itself.
func (c CRS) fromPROJJSON() CRS {
	var p projjson
	if json.Unmarshal([]byte(c.text), &p) != nil {
		return c
	}
	c.name = p.Name
	switch p.Type {
	case "GeographicCRS", "DerivedGeographicCRS":
		c.geographic = len(p.CS.Axis) == 2 &&
			!slices.ContainsFunc(p.CS.Axis, func(a projAxis) bool { return string(a.Unit) != `"degree"` })
	case "ProjectedCRS", "DerivedProjectedCRS", "GeodeticCRS", "CompoundCRS", "EngineeringCRS":
	default:
		return c // BoundCRS and what we do not know
	}
	if p.ID == nil && len(p.IDs) > 0 {
		p.ID = &p.IDs[0]
	}
	if p.ID != nil {
		c.id = makeID(p.ID.Authority, strings.Trim(string(p.ID.Code), `"`))
	}
	return c
}
