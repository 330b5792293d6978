package layer

// NodataValues gives the stored values that the rule of Missing takes for no
// value, besides NaN, for where the rule has to be told and not applied:
// float64 for layers stored as a float type, int64 for the others. It is empty
// for a layer without nodata, or whose nodata its stored type cannot hold.
func NodataValues(l Layer) []any {
	switch l.StoredType {
	case Uint8:
		return nodataOf[uint8](l)
	case Int8:
		return nodataOf[int8](l)
	case Uint16:
		return nodataOf[uint16](l)
	case Int16:
		return nodataOf[int16](l)
	case Uint32:
		return nodataOf[uint32](l)
	case Int32:
		return nodataOf[int32](l)
	case Int64:
		return nodataOf[int64](l)
	case Float32:
		return nodataOf[float32](l)
	default:
		return nodataOf[float64](l)
	}
}

func nodataOf[T Value](l Layer) []any {
	m := MissingOf[T](l)
	values := make([]any, 0, m.n)
	for _, v := range m.nodata[:m.n] {
		switch TypeOf[T]() {
		case Float32, Float64:
			values = append(values, float64(v))
		default:
			values = append(values, int64(v))
		}
	}
	return values
}
